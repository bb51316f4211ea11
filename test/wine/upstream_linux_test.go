package wine_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lithify/lithify/test/wine"
	"github.com/lithify/lithify/test/wine/winlayer"
)

// What hcsshim v0.15.0 gets wrong, and lithify does for it or refuses. A test that fails
// here says that it no longer does.
func testUpstream(t *testing.T, p *wine.Prefix) {
	// It forgets to flush what was written to the file, it does not count what may be
	// written to the stream, and it asks for a name that go-winio's own tars do not have.
	for name, tc := range map[string]struct{ content, stream, want string }{
		"stream of a file with content": {"content", ":Zone.Identifier:$DATA", "incomplete write, 7 bytes left"},
		"stream of an empty file":       {"", ":Zone.Identifier:$DATA", "wrote too much"},
		"stream as go-winio writes it":  {"", ":Zone.Identifier", "stream types other than $DATA are not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			l := winlayer.New()
			l.Dir("Files")
			l.File("Files/a.txt", []byte(tc.content))
			l.Stream("Files/a.txt", tc.stream, []byte("[ZoneTransfer]"))
			r := imported(t, p, nil, l.Bytes())
			if r.err == nil || !strings.Contains(r.err.Error(), tc.want) {
				t.Errorf("got %v, want %s", r.err, tc.want)
			}
		})
	}

	// Attributes come in the order of a Go map.
	t.Run("extended attributes", func(t *testing.T) {
		l := winlayer.New()
		l.Dir("Files")
		for _, name := range strings.Fields("a b c d e f g h i j k l m n o p") {
			l.File("Files/"+name, nil, winlayer.EA("A", nil), winlayer.EA("B", nil), winlayer.EA("C", nil))
		}
		child := l.Bytes()
		first, second := imported(t, p, nil, winlayer.Base(), child), imported(t, p, nil, winlayer.Base(), child)
		if first.calls == second.calls {
			t.Error("a layer with several extended attributes for a file is the same twice")
		}
	})

	// What was imported before the error is committed and sealed, as if it were the layer.
	t.Run("error", func(t *testing.T) {
		l := winlayer.New()
		l.Dir("Files")
		l.File("Files/a.txt", nil, winlayer.Record("MSWINDOWS.rawsd", "no base64"))
		r := imported(t, p, nil, winlayer.Base(), l.Bytes())
		if r.err == nil || !strings.Contains(r.err.Error(), "illegal base64") {
			t.Errorf("got %v, want an error", r.err)
		}
		if want := `CimSealImage block=\1\layer.vhd`; !strings.Contains(r.calls, want) {
			t.Errorf("no %s in\n%s", want, r.calls)
		}
	})

	// After an error within a file the image is not closed: until the process ends nobody
	// removes it.
	t.Run("error in a file", func(t *testing.T) {
		l := winlayer.New()
		l.Dir("Files")
		l.File("Files/a.txt", make([]byte, 9000))
		b := l.Bytes()
		r := imported(t, p, []string{"-clean"}, winlayer.Base(), b[:len(b)-6000])
		for _, want := range []string{"unexpected EOF", `remove Z:`, "Sharing violation"} {
			if r.err == nil || !strings.Contains(r.err.Error(), want) {
				t.Errorf("got %v, want %s", r.err, want)
			}
		}
		if not := `CimCloseImage block=\1`; strings.Contains(r.calls, not) {
			t.Errorf("%s in\n%s", not, r.calls)
		}
	})

	// The footer of a VHD has a random UUID.
	t.Run("footer", func(t *testing.T) {
		const footer = 512
		a := read(t, imported(t, p, []string{"-footer"}, winlayer.Base()).dir, "0/layer.vhd")
		b := read(t, imported(t, p, []string{"-footer"}, winlayer.Base()).dir, "0/layer.vhd")
		if len(a) != len(b) || !bytes.Equal(a[:len(a)-footer], b[:len(b)-footer]) {
			t.Error("the blocks differ before the footer")
		}
		if bytes.Equal(a, b) {
			t.Error("the footer is the same twice")
		}
	})

	// A layer without changes of the hives leaves none for the layer on it.
	t.Run("hives", func(t *testing.T) {
		r := imported(t, p, nil, winlayer.Base(), winlayer.Copied(), winlayer.Child())
		if want := `1\Hives\SYSTEM_BASE`; r.err == nil || !strings.Contains(r.err.Error(), want) {
			t.Errorf("got %v, want no %s", r.err, want)
		}
	})

	// A directory that shall lose what is below it loses a file of that name instead.
	t.Run("opaque directory", func(t *testing.T) {
		l := winlayer.New()
		l.Dir("Files")
		l.Dir("Files/Users")
		l.Remove("Files/Users/.wh..opq")
		r := imported(t, p, nil, winlayer.Base(), l.Bytes())
		if r.err != nil {
			t.Fatal(r.err)
		}
		if want := `CimTombstoneFile path=Files\Users\.wh..opq`; !strings.Contains(r.calls, want) {
			t.Errorf("no %s in\n%s", want, r.calls)
		}
	})
}
