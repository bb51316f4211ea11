package erofs

import (
	"strconv"
	"strings"
)

// paxRecords is the content of one extended header (POSIX.1-2001 pax). A key
// that comes twice has its last value.
type paxRecords map[string]string

// Keys of GNU tar's sparse formats 0.0, 0.1 and 1.0, and of xattrs as star,
// GNU tar and Docker write them. LIBARCHIVE.xattr.* is not read, as archive/tar
// does not read it: bsdtar writes the same attributes under SCHILY.xattr too.
const (
	paxXattr          = "SCHILY.xattr."
	paxSparse         = "GNU.sparse."
	paxSparseBlocks   = "GNU.sparse.numblocks"
	paxSparseOffset   = "GNU.sparse.offset"
	paxSparseBytes    = "GNU.sparse.numbytes"
	paxSparseMap      = "GNU.sparse.map"
	paxSparseName     = "GNU.sparse.name"
	paxSparseMajor    = "GNU.sparse.major"
	paxSparseMinor    = "GNU.sparse.minor"
	paxSparseSize     = "GNU.sparse.size"
	paxSparseRealSize = "GNU.sparse.realsize"
)

// parsePAX splits an extended header. GNU's sparse format 0.0, which repeats
// keys, becomes 0.1, which does not. It reports false for a malformed one.
func parsePAX(s string) (paxRecords, bool) {
	recs := paxRecords{}
	var sparse []string
	for s != "" {
		key, value, rest, ok := cutRecord(s)
		if !ok {
			return nil, false
		}
		s = rest
		if key != paxSparseOffset && key != paxSparseBytes {
			recs[key] = value
			continue
		}
		if offset := len(sparse)%2 == 0; offset != (key == paxSparseOffset) || strings.Contains(value, ",") {
			return nil, false
		}
		sparse = append(sparse, value)
	}
	if len(sparse) > 0 {
		recs[paxSparseMap] = strings.Join(sparse, ",")
	}
	return recs, true
}

// cutRecord reads one "LENGTH KEY=VALUE\n".
func cutRecord(s string) (key, value, rest string, ok bool) {
	length, after, ok := strings.Cut(s, " ")
	if !ok {
		return "", "", "", false
	}
	n, err := strconv.ParseInt(length, 10, 0)
	if err != nil || n < 5 || n > int64(len(s)) || n <= int64(len(length)+1) {
		return "", "", "", false
	}
	rec, rest := after[:n-int64(len(length)+1)], s[n:]
	rec, ok = strings.CutSuffix(rec, "\n")
	if !ok {
		return "", "", "", false
	}
	key, value, ok = strings.Cut(rec, "=")
	return key, value, rest, ok && validRecord(key, value)
}

func validRecord(key, value string) bool {
	switch key {
	case "path", "linkpath", "uname", "gname":
		return !strings.Contains(value, "\x00")
	}
	return key != "" && !strings.Contains(key, "\x00")
}

// parsePAXTime reads decimal seconds with an optional fraction, of which nine
// digits count. Negative times have negative fractions.
func parsePAXTime(s string) (sec int64, nsec int32, ok bool) {
	whole, frac, _ := strings.Cut(s, ".")
	sec, ok = parseDecimal(whole)
	if !ok {
		return 0, 0, false
	}
	digits := 0
	for i := range len(frac) {
		if frac[i] < '0' || frac[i] > '9' {
			return 0, 0, false
		}
		if i < 9 {
			nsec = nsec*10 + int32(frac[i]-'0')
			digits++
		}
	}
	for ; digits < 9; digits++ {
		nsec *= 10
	}
	if nsec > 0 && whole[0] == '-' {
		sec, nsec = sec-1, 1e9-nsec
	}
	return sec, nsec, true
}
