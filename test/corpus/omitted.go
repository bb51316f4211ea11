package corpus

import (
	"archive/tar"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Omitted is an image whose second layer leaves much to the first: it lists neither
// secret/ (0700, of user 1000) nor tmp/ (1777) nor the root, in which it puts
// files; AUFS left junk in it. The first layer has whiteouts, though nothing lies
// below. program runs as /probe.
func Omitted(mt types.MediaType, program []byte) (v1.Image, error) {
	return omitted(mt, program, omittedUpper)
}

// Linked is Omitted with a third layer: a hard link to a file of the first, which
// mkfs.erofs refuses.
func Linked(mt types.MediaType, program []byte) (v1.Image, error) {
	return omitted(mt, program, omittedUpper, omittedLink)
}

func omitted(mt types.MediaType, program []byte, uppers ...func(*tar.Writer) error) (v1.Image, error) {
	lower, err := Built(mt, func(w *tar.Writer) error { return omittedLower(w, program) })
	if err != nil {
		return nil, err
	}
	layers := []v1.Layer{lower}
	for _, fill := range uppers {
		upper, err := Built(mt, fill)
		if err != nil {
			return nil, err
		}
		layers = append(layers, upper)
	}
	image, err := Image(Linux, []string{"/probe"}, layers...)
	if err != nil || mt != types.DockerLayer {
		return image, err
	}
	return Docker(image), nil
}

func omittedLower(w *tar.Writer, program []byte) error {
	for _, h := range []tar.Header{
		{Name: "./", Mode: 0o755},
		{Name: "secret/", Mode: 0o700, Uid: 1000, Gid: 1000, PAXRecords: map[string]string{"SCHILY.xattr.user.kept": "yes"}},
		{Name: "tmp/", Mode: 0o1777},
		{Name: "etc/", Mode: 0o755},
		{Name: "gone/", Mode: 0o755},
		{Name: "opaque/", Mode: 0o755},
	} {
		h.Typeflag = tar.TypeDir
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
	}
	for _, f := range []struct{ name, content string }{
		{"secret/a", "lower a"}, {"etc/shared", "lower shared"}, {"gone/file", "gone"}, {"opaque/hidden", "hidden"},
		{".wh.nothing-below", ""}, {"etc/.wh..wh..opq", ""}, {"probe", string(program)},
	} {
		mode := int64(0o640)
		if f.name == "probe" {
			mode = 0o755
		}
		if err := File(w, tar.Header{Name: f.name, Mode: mode, Uid: 7, Gid: 8}, f.content); err != nil {
			return err
		}
	}
	return nil
}

func omittedUpper(w *tar.Writer) error {
	for _, f := range []struct{ name, content string }{
		{"secret/b", "upper b"}, {"tmp/x/y", "upper y"}, {".wh.gone", ""}, {"opaque/.wh..wh..opq", ""},
		{"opaque/seen", "seen"}, {".wh..wh.plnk/7.7", "junk"}, {".wh..wh.aufs", ""},
	} {
		if err := File(w, tar.Header{Name: f.name, Mode: 0o644}, f.content); err != nil {
			return err
		}
	}
	return nil
}

func omittedLink(w *tar.Writer) error {
	return w.WriteHeader(&tar.Header{Name: "linked", Typeflag: tar.TypeLink, Linkname: "etc/shared", Mode: 0o640, Uid: 7, Gid: 8})
}
