package lint_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/lint"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/test/imagetest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layers hide, link, and leave directories out.
func layers(t *testing.T) []v1.Layer {
	text := strings.Repeat("lithify ", 40_000)
	return []v1.Layer{
		imagetest.Layer(t, map[string]string{"etc/passwd": "root", "opt/data": text},
			tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o711}, tar.Header{Name: "etc/passwd"},
			tar.Header{Name: "opt/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "opt/data", Mode: 0o644}, tar.Header{Name: "opt/same", Typeflag: tar.TypeLink, Linkname: "opt/data"},
			tar.Header{Name: "opt/.wh.nothing"}, tar.Header{Name: "etc/.wh..wh..opq"}),
		imagetest.Layer(t, nil, tar.Header{Name: "etc/.wh.passwd"}, tar.Header{Name: "var/.wh..wh..opq"},
			tar.Header{Name: "opt/soft", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, tar.Header{Name: "etc/again", Typeflag: tar.TypeLink, Linkname: "opt/data"}),
		imagetest.Layer(t, map[string]string{"top": "top"}, tar.Header{Name: "top", Mode: 0o644}),
	}
}

// found are the rules that an image violates, with the number of the layer.
func found(t *testing.T, src convert.Source, deep bool) (list []string, r *lint.Report) {
	t.Helper()
	r, err := lint.Image(t.Context(), src, lint.Options{Deep: deep, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		list = append(list, fmt.Sprintf("%s %d", f.Rule, f.Layer))
		t.Log(f)
	}
	return list, r
}

// TestOurs: what lithify makes, in every profile and dialect, violates nothing. What
// containerd's dialect does otherwise is told once.
func TestOurs(t *testing.T) {
	h := imagetest.NewHub(t)
	for _, dialect := range []erofs.Dialect{erofs.DialectSpec, erofs.DialectLegacy} {
		for name, opts := range map[string]convert.Options{
			"erofs": {}, "tails": {InlineTails: true}, "verity": {Verity: true}, "tar": {Profile: erofs.ProfileTar}, "index": {Profile: erofs.ProfileIndex},
			"zstd": {Profile: erofs.ProfileZstd}, "zstd,verity,tails": {Profile: erofs.ProfileZstd, Verity: true, InlineTails: true},
		} {
			layersOf := 3
			if opts.Profile == erofs.ProfileIndex {
				if layersOf = 6; dialect == erofs.DialectLegacy {
					continue // which cannot name it
				}
			}
			for _, deep := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s,%s,deep=%t", dialect, name, deep), func(t *testing.T) {
					opts.Dialect = dialect
					m := h.Converted(t, "it:made", opts, layers(t)...)
					list, r := found(t, h.Put(t, "it:1", m), deep)
					var want []string
					if dialect == erofs.DialectLegacy {
						want = []string{"legacy-dialect 0"}
					}
					if !slices.Equal(list, want) || r.Err(true) != nil || r.Variants != 1 || r.Layers != layersOf {
						t.Errorf("got %q in %d layers of %d variants, want %q", list, r.Layers, r.Variants, want)
					}
				})
			}
		}
	}
}

// violation changes one thing of an image, which violates some rules.
type violation struct {
	opts  convert.Options
	alter func(m *imagetest.Image)
	want  string // rule and layer, more of them with commas between
	deep  bool   // it takes this to be seen
}

var (
	spec   = convert.Options{Dialect: erofs.DialectSpec}
	zstds  = convert.Options{Dialect: erofs.DialectSpec, Profile: erofs.ProfileZstd}
	proven = convert.Options{Dialect: erofs.DialectSpec, Verity: true}
	// outside has files in the original layers, which come before those of their metadata.
	outside = convert.Options{Dialect: erofs.DialectSpec, Profile: erofs.ProfileIndex}
)

func note(i int, key, value string) func(*imagetest.Image) {
	return func(m *imagetest.Image) { m.Manifest.Layers[i].Annotations[key] = value }
}

func without(i int, key string) func(*imagetest.Image) {
	return func(m *imagetest.Image) { delete(m.Manifest.Layers[i].Annotations, key) }
}

// index changes layer 1's chunk index, and its digest with it.
func index(edit func([]byte) []byte) func(*imagetest.Image) {
	return func(m *imagetest.Image) {
		x := indexOf(m)
		blob := slices.Clone(m.Blobs[0])
		payload := edit(blob[x.Offset+8:])
		binary.LittleEndian.PutUint32(blob[x.Offset+4:], uint32(len(payload)))
		m.Replace(0, append(blob[:x.Offset+8], payload...))
		renote(m, payload)
	}
}

func indexOf(m *imagetest.Image) erofs.ChunkIndex {
	x, _, err := erofs.ChunkIndexOf(m.Manifest.Layers[0])
	if err != nil {
		panic(err)
	}
	return x
}

func renote(m *imagetest.Image, payload []byte) {
	d := m.Manifest.Layers[0]
	from, _, _ := strings.Cut(d.Annotations[erofs.AnnotationChunkIndexRange], ":")
	d.Annotations[erofs.AnnotationChunkIndexRange] = fmt.Sprintf("%s:%d", from, d.Size)
	d.Annotations[erofs.AnnotationChunkIndexDigest] = digest.FromBytes(payload).String()
}

func set(at int, v byte) func(*imagetest.Image) {
	return index(func(b []byte) []byte { b[at] = v; return b })
}

// raw changes layer i's image, of which the superblock's checksum then does not matter.
func raw(i int, edit func([]byte) []byte) func(*imagetest.Image) {
	return func(m *imagetest.Image) {
		blob := edit(slices.Clone(m.Blobs[i]))
		blob[1024+8] &^= 1
		m.Replace(i, blob)
	}
}

// inodeOf is where a file's inode lies.
func inodeOf(b []byte, name string) int {
	fsys, err := erofs.Open(bytes.NewReader(b))
	if err != nil {
		panic(err)
	}
	info, err := fsys.Lstat(name)
	if err != nil {
		panic(err)
	}
	return int(binary.LittleEndian.Uint32(b[1024+40:]))<<12 + int(info.(interface{ Ino() uint64 }).Ino())*32
}

func replaced(old, new string) func([]byte) []byte {
	return func(b []byte) []byte {
		if !bytes.Contains(b, []byte(old)) {
			panic("no " + old)
		}
		return bytes.ReplaceAll(b, []byte(old), []byte(new))
	}
}

// frames gives layer 1 other frames, of the same image and with the same index but for
// what edit does.
func recompressed(edit func(m *imagetest.Image, image []byte)) func(*imagetest.Image) {
	return func(m *imagetest.Image) {
		dec, err := zstd.NewReader(bytes.NewReader(m.Blobs[0]))
		if err != nil {
			panic(err)
		}
		defer dec.Close()
		image, err := io.ReadAll(dec)
		if err != nil {
			panic(err)
		}
		edit(m, image)
	}
}

func pack(p []byte) []byte {
	enc, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	if err != nil {
		panic(err)
	}
	return enc.EncodeAll(p, nil)
}

// standalone puts an index behind layer 1, that of a raw image of one chunk.
func standalone(alter func(m *imagetest.Image)) func(*imagetest.Image) {
	return func(m *imagetest.Image) {
		le := binary.LittleEndian
		of := m.Manifest.Layers[0]
		b := []byte{0xCD, 0xE4, 0xEC, 0x67, 1, 0, 0, 0}
		b = le.AppendUint64(b, uint64(of.Size))
		b = le.AppendUint32(b, 1)
		b = append(append(b, 1, 32), make([]byte, 10+16)...)
		sum := []byte(of.Digest.Encoded())
		b = fmt.Appendf(b, "%s", unhex(sum))
		d := digest.FromBytes(b)
		m.Insert(1, ocispec.Descriptor{MediaType: erofs.MediaTypeChunkIndex, Annotations: map[string]string{
			erofs.AnnotationChunkIndexTarget: of.Digest.String(), erofs.AnnotationChunkIndexDigest: d.String(),
		}}, b, d)
		alter(m)
	}
}

func unhex(s []byte) []byte {
	out := make([]byte, len(s)/2)
	if _, err := fmt.Sscanf(string(s), "%x", &out); err != nil {
		panic(err)
	}
	return out
}

var violations = map[string]violation{
	"index without the feature":  {spec, func(m *imagetest.Image) { m.Index.Manifests[1].Platform.OSFeatures = nil }, "index-os-features 0", false},
	"config without the feature": {spec, func(m *imagetest.Image) { delete(m.Config, "os.features") }, "config-os-features 0", false},
	"tar last":                   {spec, func(m *imagetest.Image) { slices.Reverse(m.Index.Manifests) }, "tar-first 0", false},
	"rootfs of another type":     {spec, func(m *imagetest.Image) { m.Config["rootfs"].(map[string]any)["type"] = "erofs" }, "rootfs-type 0", false},

	"a layer of both dialects": {spec, func(m *imagetest.Image) { m.Manifest.Layers[1].MediaType = erofs.MediaTypeLegacy }, "layer-media-type 2", false},
	"a layer of something": {spec, func(m *imagetest.Image) {
		m.Manifest.Layers[1].MediaType = "application/x"
		m.Manifest.Layers[1].Annotations = nil
	}, "layer-media-type 2", false},
	"a layer of tar": {spec, func(m *imagetest.Image) {
		m.Manifest.Layers[1].MediaType = ocispec.MediaTypeImageLayer
		m.Manifest.Layers[1].Annotations = nil
	},
		"layer-media-type 2,one-family 2", false},
	"no digest":              {spec, note(0, erofs.AnnotationUncompressedDigest, "x"), "annotation-form 1,diff-ids-agree 1,diff-id 1", false},
	"no role":                {spec, note(0, erofs.AnnotationRole, "base"), "annotation-form 1,whiteouts 2", false},
	"no number":              {proven, note(0, erofs.AnnotationVerityBlockSize, "0x1000"), "annotation-form 1", false},
	"no range":               {zstds, note(0, erofs.AnnotationChunkIndexRange, "1:2:3"), "annotation-form 1", false},
	"no media type":          {zstds, note(0, erofs.AnnotationChunkIndexMediaType, "x"), "annotation-form 1", false},
	"an annotation more":     {spec, note(0, "org.erofs.rol", "x"), "unknown-annotation 1", false},
	"no uncompressed digest": {zstds, without(0, erofs.AnnotationUncompressedDigest), "uncompressed-digest 1", false},

	"a role less":        {spec, without(0, erofs.AnnotationRole), "lower-role 1,whiteouts 2", false},
	"device at the top":  {spec, note(2, erofs.AnnotationRole, erofs.RoleDevice), "last-layer 3,device-consumer 3", false},
	"data at the top":    {spec, note(2, erofs.AnnotationRole, erofs.RoleOverlayData), "last-layer 3,overlay-data-consumer 3", false},
	"data without use":   {spec, note(1, erofs.AnnotationRole, erofs.RoleOverlayData), "overlay-data-consumer 2", false},
	"device without use": {spec, note(1, erofs.AnnotationRole, erofs.RoleDevice), "device-consumer 2", false},
	"overlay-lower of something": {spec, func(m *imagetest.Image) { m.Manifest.Layers[1].MediaType = "application/x" },
		"layer-media-type 2,overlay-lower-type 2", false},
	"overlay-data of something": {spec, func(m *imagetest.Image) {
		m.Manifest.Layers[1].MediaType = "application/x"
		note(1, erofs.AnnotationRole, erofs.RoleOverlayData)(m)
	},
		"layer-media-type 2,overlay-data-type 2,overlay-data-consumer 2", false},
	"another tag":      {outside, raw(1, func(b []byte) []byte { b[1152] ^= 1; return b }), "device-tag 2", false},
	"a table too much": {outside, without(0, erofs.AnnotationRole), "layer-media-type 1,one-family 1,device-consumer 2", false},
	"other tar":        {outside, func(m *imagetest.Image) { m.DiffIDs()[0] = digest.FromString("x").String() }, "diff-id 1", true},

	"no diffIDs": {spec, func(m *imagetest.Image) { delete(m.Config, "rootfs") }, "diff-ids 0", false},
	"a diffID less": {spec, func(m *imagetest.Image) {
		without(0, erofs.AnnotationUncompressedDigest)(m)
		m.Config["rootfs"].(map[string]any)["diff_ids"] = m.DiffIDs()[:2]
	}, "diff-ids-count 0", false},
	"another diffID": {spec, func(m *imagetest.Image) { m.DiffIDs()[0] = digest.FromString("x").String() }, "diff-ids-agree 1", false},
	"both other": {spec, func(m *imagetest.Image) {
		m.DiffIDs()[0] = digest.FromString("x").String()
		note(0, erofs.AnnotationUncompressedDigest, digest.FromString("x").String())(m)
	}, "diff-id 1", false},
	"both other of zstd": {zstds, func(m *imagetest.Image) {
		m.DiffIDs()[0] = digest.FromString("x").String()
		note(0, erofs.AnnotationUncompressedDigest, digest.FromString("x").String())(m)
	},
		"diff-id 1", true},
	"other bytes": {spec, func(m *imagetest.Image) { m.Manifest.Layers[0].Size-- }, "blob-digest 1", true},

	"standalone": {spec, standalone(func(*imagetest.Image) {}), "", true},
	"standalone first": {spec, standalone(func(m *imagetest.Image) {
		m.Manifest.Layers = m.Manifest.Layers[1:]
		m.Blobs = m.Blobs[1:]
		m.Config["rootfs"].(map[string]any)["diff_ids"] = m.DiffIDs()[1:]
	}), "standalone-place 1,standalone-target-match 1,whiteouts 2", false},
	"standalone of nothing": {spec, standalone(without(1, erofs.AnnotationChunkIndexTarget)), "standalone-target 2", false},
	"standalone of another": {spec, standalone(note(1, erofs.AnnotationChunkIndexTarget, digest.FromString("x").String())), "standalone-target-match 2", false},
	"standalone, no digest": {spec, standalone(without(1, erofs.AnnotationChunkIndexDigest)), "standalone-digest 2", false},
	"standalone, other layer": {spec, standalone(func(m *imagetest.Image) {
		raw(0, replaced("root", "toor"))(m)
		note(1, erofs.AnnotationChunkIndexTarget, m.Manifest.Layers[0].Digest.String())(m)
	}), "chunk-sum 2", false},
	"standalone of an indexed": {zstds, standalone(func(*imagetest.Image) {}), "one-index 2,index-compression 2,index-size 2", false},

	"index not named": {zstds, func(m *imagetest.Image) {
		without(0, erofs.AnnotationChunkIndexRange)(m)
		without(0, erofs.AnnotationChunkIndexDigest)(m)
	}, "index-range 1", false},
	"index without a place":   {zstds, without(0, erofs.AnnotationChunkIndexRange), "index-range 1", false},
	"index without a digest":  {zstds, without(0, erofs.AnnotationChunkIndexDigest), "index-digest 1", false},
	"index of another digest": {zstds, note(0, erofs.AnnotationChunkIndexDigest, digest.FromString("x").String()), "index-digest-match 1", false},
	"index behind the blob":   {zstds, note(0, erofs.AnnotationChunkIndexRange, "0:9999999"), "index-place 1", false},
	"index without a frame": {zstds, func(m *imagetest.Image) {
		x, blob := indexOf(m), slices.Clone(m.Blobs[0])
		blob[x.Offset+4]++
		m.Replace(0, blob)
	}, "index-frame 1,image 1", false},
	"index not aligned": {zstds, func(m *imagetest.Image) {
		x := indexOf(m)
		padding := []byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0}
		blob := slices.Concat(m.Blobs[0][:x.Offset], padding, m.Blobs[0][x.Offset:])
		m.Replace(0, blob)
		m.Manifest.Layers[0].Annotations[erofs.AnnotationChunkIndexRange] = fmt.Sprint(x.Offset + int64(len(padding)))
	}, "index-aligned 1,chunk-frame 1,chunk-sum 1", false},
	"no magic":    {zstds, set(0, 0), "index-header 1", false},
	"version":     {zstds, set(4, 2), "index-header 1", false},
	"compression": {zstds, set(5, 0), "index-compression 1,index-entries 1,chunk-sum 1", false},
	"flags":       {zstds, set(6, 1), "index-flags 1", false},
	"reserved":    {zstds, set(30, 1), "index-reserved 1", false},
	"hash":        {zstds, set(20, 7), "index-hash 1", false},
	"no sums": {zstds, index(func(b []byte) []byte {
		out := slices.Clone(b[:32])
		out[20], out[21] = 0, 0
		for at := 32; at < len(b); at += 48 {
			out = append(out, b[at:at+16]...)
		}
		return out
	}), "index-sums 1", false},
	"length":            {zstds, set(16, 200), "index-length 1", false},
	"entries":           {zstds, set(32+8, 1), "index-entries 1", false},
	"a chunk too far":   {zstds, set(32+48+7, 1), "index-entries 1", false},
	"size":              {zstds, set(8, 1), "index-size 1,chunk-frame 1", false},
	"sum":               {zstds, set(32+16, 0), "chunk-sum 1", false},
	"sum in the middle": {zstds, set(32+48+16, 0), "chunk-sum 1", true},
	"two frames": {zstds, recompressed(func(m *imagetest.Image, image []byte) {
		x := indexOf(m)
		frame := slices.Concat(pack(image[:2048]), pack(image[2048:4096]))
		if fill := (2 - len(frame)) & 3; fill > 0 {
			frame = append(frame, 0x50, 0x2a, 0x4d, 0x18, byte(fill), 0, 0, 0)
			frame = append(frame, make([]byte, fill)...)
		}
		payload := slices.Clone(m.Blobs[0][x.Offset+8:])
		moved := len(frame) - int(binary.LittleEndian.Uint64(payload[32+48:]))
		for at := 32 + 48; at < len(payload); at += 48 {
			binary.LittleEndian.PutUint64(payload[at:], binary.LittleEndian.Uint64(payload[at:])+uint64(moved))
		}
		old := binary.LittleEndian.Uint64(m.Blobs[0][x.Offset+8+32+48:])
		h := digest.FromBytes(frame)
		copy(payload[32+16:], unhex([]byte(h.Encoded())))
		rest := m.Blobs[0][old:x.Offset]
		blob := slices.Concat(frame, rest, m.Blobs[0][x.Offset:x.Offset+8], payload)
		m.Replace(0, blob)
		m.Manifest.Layers[0].Annotations[erofs.AnnotationChunkIndexRange] = fmt.Sprint(x.Offset + int64(moved))
		m.Manifest.Layers[0].Annotations[erofs.AnnotationChunkIndexDigest] = digest.FromBytes(payload).String()
	}), "chunk-frame 1", false},

	"tree not named": {proven, func(m *imagetest.Image) {
		without(0, erofs.AnnotationVerityHashOffset)(m)
		without(0, erofs.AnnotationVerityRootDigest)(m)
		without(0, erofs.AnnotationVerityBlockSize)(m)
	}, "verity-annotations 1", false},
	"tree without a place": {proven, without(0, erofs.AnnotationVerityHashOffset), "verity-annotations 1", false},
	"tree without a root":  {proven, without(0, erofs.AnnotationVerityRootDigest), "verity-annotations 1", false},
	"tree of odd blocks":   {proven, note(0, erofs.AnnotationVerityBlockSize, "4097"), "verity-offset 1,verity-superblock 1", false},
	"tree of other blocks": {proven, note(0, erofs.AnnotationVerityBlockSize, "512"), "verity-superblock 1", false},
	"tree elsewhere":       {proven, note(0, erofs.AnnotationVerityHashOffset, "4096"), "verity-superblock 1", false},
	"tree of less": {proven, raw(0, func(b []byte) []byte {
		at := bytes.Index(b, []byte("verity\x00\x00"))
		b[at+72]--
		return b
	}), "verity-superblock 1,verity-root 1", true},
	"image of more blocks": {proven, raw(0, func(b []byte) []byte { b[1024+36]++; return b }), "verity-place 1,verity-root 1", true},
	"root":                 {proven, note(0, erofs.AnnotationVerityRootDigest, digest.FromString("x").String()), "verity-root 1", false},
	"data":                 {proven, raw(0, replaced("root", "toor")), "verity-root 1", true},

	"no image":      {spec, func(m *imagetest.Image) { m.Replace(0, make([]byte, 8192)) }, "image 1", false},
	"damaged image": {spec, raw(0, func(b []byte) []byte { copy(b[inodeOf(b, "opt"):], "\xff\xff\xff\xff"); return b }), "image 1", false},
	"cut image":     {spec, func(m *imagetest.Image) { m.Replace(0, m.Blobs[0][:2000]) }, "image 1", false},
	"no zstd": {zstds, func(m *imagetest.Image) {
		m.Replace(0, []byte("lithify"))
		for k := range m.Manifest.Layers[0].Annotations {
			if strings.Contains(k, "chunk") {
				without(0, k)(m)
			}
		}
	}, "image 1", false},
	"whiteouts below":   {spec, func(m *imagetest.Image) { m.Replace(0, m.Blobs[1]) }, "whiteouts 1", false},
	"mark of overlayfs": {spec, raw(1, replaced("overlay.opaque", "overlay.opaquf")), "", false},
	"opaque=x": {spec, raw(1, func(b []byte) []byte {
		i := bytes.Index(b, []byte("overlay.opaquey"))
		b[i+len("overlay.opaque")] = 'x'
		return b
	}), "whiteout-form 2", false},
	"tar's whiteout":  {spec, raw(1, replaced("passwd", ".wh.pw")), "tar-whiteouts 2,entry-order 2", false},
	"a link too much": {spec, raw(0, func(b []byte) []byte { b[inodeOf(b, "opt/data")+44]++; return b }), "hard-links 1", false},
	"random UUID":     {spec, raw(0, func(b []byte) []byte { b[1024+48+6] = 0x4f; return b }), "stable-uuid 1", false},
	"not in order":    {spec, raw(0, func(b []byte) []byte { return replaced("datasame", "samedata")(b) }), "entry-order 1", false},
}

// TestViolations has each rule violated, alone where that can be.
func TestViolations(t *testing.T) {
	h := imagetest.NewHub(t)
	seen := map[string]bool{"legacy-dialect": true, "unread": true} // TestOurs, TestUnread
	for name, v := range violations {
		for rule := range strings.SplitSeq(v.want, ",") {
			id, _, _ := strings.Cut(rule, " ")
			seen[id] = true
		}
		t.Run(name, func(t *testing.T) {
			m := h.Converted(t, "it:made", v.opts, layers(t)...)
			v.alter(m)
			src := h.Put(t, "it:1", m)
			list, r := found(t, src, v.deep)
			if got := strings.Join(list, ","); got != v.want {
				t.Errorf("got %q, want %q", got, v.want)
			}
			for _, strict := range []bool{false, true} {
				bad := r.Count(lint.Must) > 0 || strict && r.Count(lint.Should) > 0
				if refused := errors.As(r.Err(strict), new(*convert.RefusedError)); refused != bad {
					t.Errorf("strict %t: refused %t, want %t", strict, refused, bad)
				}
			}
			if shallow, _ := found(t, src, false); v.deep && v.want != "" && slices.Equal(shallow, list) {
				t.Error("it does not take deep reading")
			}
		})
	}
	for _, r := range lint.Rules() {
		if (r.Unseen == "") != seen[r.ID] {
			t.Errorf("rule %s: seen to be violated: %t, said not to be checked: %q", r.ID, seen[r.ID], r.Unseen)
		}
	}
}
