package cimfs

import (
	"archive/tar"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Microsoft/go-winio"
)

// The records of PAX headers in layers of Windows: go-winio's backuptar, which writes them.
const (
	paxAttributes   = "MSWINDOWS.fileattr"
	paxSD           = "MSWINDOWS.rawsd" // base64
	paxSDDL         = "MSWINDOWS.sd"
	paxMountPoint   = "MSWINDOWS.mountpoint"
	paxEA           = "MSWINDOWS.xattr."
	paxCreationTime = "LIBARCHIVE.creationtime"
)

// fileOf is the call that makes the file of a header, without its content's digest. On an
// error, which is of a record that cannot be read, it lacks what the record says.
func fileOf(h *tar.Header) (Call, error) {
	c := Call{
		Op:             OpFile,
		Path:           strings.TrimSuffix(windowsPath(h.Name), `\`),
		CreationTime:   filetime(h.ModTime),
		LastWriteTime:  filetime(h.ModTime),
		ChangeTime:     filetime(h.ChangeTime),
		LastAccessTime: filetime(h.AccessTime),
	}
	if h.Typeflag == tar.TypeReg {
		c.Size = h.Size
	}
	err := errors.Join(c.times(h), c.attributes(h), c.security(h), c.extended(h))
	return c, err
}

func (c *Call) times(h *tar.Header) error {
	s, ok := h.PAXRecords[paxCreationTime]
	if !ok {
		return nil
	}
	t, err := paxTime(s)
	if err != nil {
		return fmt.Errorf("%s is %q, which is no time", paxCreationTime, s)
	}
	c.CreationTime = filetime(t)
	return nil
}

// attributes are the header's, but for that of reparse points, which is of what can be one.
func (c *Call) attributes(h *tar.Header) error {
	if s, ok := h.PAXRecords[paxAttributes]; ok {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return fmt.Errorf("%s is %q, which is no number of 32 bits", paxAttributes, s)
		}
		c.Attributes = uint32(n)
	} else if h.Typeflag == tar.TypeDir {
		c.Attributes = attributeDirectory
	}
	c.Attributes &^= attributeReparse
	if h.Typeflag == tar.TypeSymlink {
		_, mount := h.PAXRecords[paxMountPoint]
		c.Reparse = reparse(windowsPath(h.Linkname), mount)
		c.Attributes |= attributeReparse
	}
	return nil
}

func (c *Call) security(h *tar.Header) (err error) {
	c.SecurityDescriptor = noSD
	if s, ok := h.PAXRecords[paxSD]; ok {
		sd, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return fmt.Errorf("%s is not base64", paxSD)
		}
		if len(sd) > 0 {
			c.SecurityDescriptor = sd
		}
	} else if s, ok := h.PAXRecords[paxSDDL]; ok {
		c.SecurityDescriptor, c.SDDL = nil, s
		return checkSDDL(s)
	}
	return nil
}

func (c *Call) extended(h *tar.Header) error {
	var eas []winio.ExtendedAttribute
	for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		name, ok := strings.CutPrefix(k, paxEA)
		if !ok {
			continue
		}
		value, err := base64.StdEncoding.DecodeString(h.PAXRecords[k])
		if err != nil {
			return fmt.Errorf("%s is not base64", k)
		}
		eas = append(eas, winio.ExtendedAttribute{Name: name, Value: value})
	}
	raw, err := winio.EncodeExtendedAttributes(eas)
	if err != nil {
		return err
	}
	c.ExtendedAttributes = raw
	return nil
}

// epoch is 1970 as a FILETIME.
const epoch = 116444736000000000

// filetime is t in tenths of a microsecond since 1601, rounded as x/sys/windows does.
func filetime(t time.Time) int64 { return t.UnixNano()/100 + epoch }

// paxTime reads seconds since 1970 with up to nine places of decimals.
func paxTime(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	fraction = (fraction + "000000000")[:9]
	nsec, err := strconv.ParseUint(fraction, 10, 32)
	if err != nil {
		return time.Time{}, err
	}
	if strings.HasPrefix(whole, "-") {
		return time.Unix(sec, -int64(nsec)), nil
	}
	return time.Unix(sec, int64(nsec)), nil
}
