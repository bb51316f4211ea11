package vhd_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/lithify/lithify/cimfs/vhd"
	"github.com/opencontainers/go-digest"
)

func open(t *testing.T, content []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "layer.vhd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// disk is content with a footer.
func disk(t *testing.T, content []byte) []byte {
	t.Helper()
	f := open(t, content)
	if _, err := vhd.Append(f, digest.FromBytes(content)); err != nil {
		t.Fatal(err)
	}
	return read(t, f)
}

func sectors(n int) []byte { return bytes.Repeat([]byte("sector: "), n*vhd.Size/8) }

func TestAppendIsStripped(t *testing.T) {
	content := sectors(3)
	f := open(t, content)
	made, err := vhd.Append(f, digest.FromBytes(content))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vhd.Append(f, digest.FromBytes(content)); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second footer: %v", err)
	}
	got, err := vhd.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(made, got); d != "" {
		t.Errorf("read is not what was made (-made +read):\n%s", d)
	}
	if got.DiskSize != int64(len(content)) || got.Creator != "" || got.Created.Year() != 2000 || got.ID.Version() != 8 || got.ID.Variant() != uuid.RFC4122 {
		t.Errorf("got %+v", got)
	}
	if b := read(t, f); !bytes.Equal(b[:len(content)], content) || len(b) != len(content)+vhd.Size {
		t.Error("the content is not before the footer")
	}
	if _, err := vhd.Strip(f); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, f), content) {
		t.Error("stripped is not what it was")
	}
	if _, err := vhd.Strip(f); !errdefs.IsNotFound(err) {
		t.Errorf("stripped twice: %v", err)
	}
}

func TestSameContentSameDisk(t *testing.T) {
	if !bytes.Equal(disk(t, sectors(3)), disk(t, sectors(3))) {
		t.Error("two disks of one content differ")
	}
	a, b := sectors(3), sectors(3)
	b[0]++
	if bytes.Equal(disk(t, a)[len(a):], disk(t, b)[len(b):]) {
		t.Error("disks of two contents have one ID")
	}
}

// TestLikeHcsshim compares the bytes with those of hcsshim, but for its random ID and what that
// does to the checksum.
func TestLikeHcsshim(t *testing.T) {
	content := sectors(5)
	theirs := open(t, content)
	if err := tar2ext4.ConvertFileToVhd(theirs.Name()); err != nil {
		t.Fatal(err)
	}
	footer, err := vhd.Read(theirs)
	if err != nil {
		t.Fatalf("read hcsshim's: %v", err)
	}
	got, want := disk(t, content), read(t, theirs)
	for _, b := range [][]byte{got, want} {
		clear(b[len(content)+64 : len(content)+84]) // checksum and ID
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got footer\n%x\nwant\n%x", got[len(content):], want[len(content):])
	}
	if footer.DiskSize != int64(len(content)) {
		t.Errorf("hcsshim's is of %d bytes", footer.DiskSize)
	}
}

// TestHcsshimTakesAnySize is why Append does not: hcsshim puts a footer behind half a sector.
func TestHcsshimTakesAnySize(t *testing.T) {
	content := sectors(2)[:700]
	f := open(t, content)
	if err := tar2ext4.ConvertFileToVhd(f.Name()); err != nil {
		t.Fatal(err)
	}
	if n := len(read(t, f)); n != 700+vhd.Size {
		t.Errorf("hcsshim has made %d bytes of 700", n)
	}
	f = open(t, content)
	if _, err := vhd.Append(f, digest.FromBytes(content)); !errdefs.IsInvalidArgument(err) || !bytes.Equal(read(t, f), content) {
		t.Errorf("half a sector: %v", err)
	}
}

func TestRefused(t *testing.T) {
	change := func(b []byte, off int, v byte) []byte {
		b[len(b)-vhd.Size+off] = v
		return b
	}
	// sum makes the checksum right again.
	sum := func(b []byte) []byte {
		footer := b[len(b)-vhd.Size:]
		clear(footer[64:68])
		var n uint32
		for _, c := range footer {
			n += uint32(c)
		}
		binary.BigEndian.PutUint32(footer[64:], ^n)
		return b
	}
	whole := func() []byte { return disk(t, sectors(2)) }
	for name, tc := range map[string]struct {
		content []byte
		is      func(error) bool
		says    string
	}{
		"empty":          {nil, errdefs.IsNotFound, "no VHD footer"},
		"short":          {sectors(1)[:100], errdefs.IsNotFound, "no VHD footer"},
		"none":           {sectors(2), errdefs.IsNotFound, "no VHD footer"},
		"damaged":        {change(whole(), 200, 1), errdefs.IsInvalidArgument, "checksum"},
		"other version":  {sum(change(whole(), 13, 2)), errdefs.IsInvalidArgument, "version 0x20000"},
		"dynamic":        {sum(change(whole(), 63, 3)), errdefs.IsInvalidArgument, "type 3"},
		"huge":           {sum(change(whole(), 48, 0xff)), errdefs.IsInvalidArgument, "bytes"},
		"of other bytes": {append(sectors(1), whole()...), errdefs.IsInvalidArgument, "1024 bytes, behind 1536"},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, tc.content)
			_, err := vhd.Read(f)
			if !tc.is(err) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), f.Name()) {
				t.Errorf("got %v, want it to name %q and the file", err, tc.says)
			}
			if _, err := vhd.Strip(f); !tc.is(err) {
				t.Errorf("strip: %v", err)
			}
			if errdefs.IsInvalidArgument(err) {
				if _, err := vhd.Append(f, digest.FromBytes(tc.content)); !errdefs.IsInvalidArgument(err) {
					t.Errorf("append: %v", err)
				}
			}
			if !bytes.Equal(read(t, f), tc.content) {
				t.Error("the file has changed")
			}
		})
	}
	for _, content := range []digest.Digest{"", "sha256:12", digest.SHA512.FromString("x")} {
		if _, err := vhd.Append(open(t, sectors(1)), content); !errdefs.IsInvalidArgument(err) {
			t.Errorf("digest %q: %v", content, err)
		}
	}
	if _, err := vhd.Append(open(t, nil), digest.FromBytes(nil)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a disk of nothing: %v", err)
	}
}

// TestReadOnly has a file that cannot be written stay as it is.
func TestReadOnly(t *testing.T) {
	content := sectors(1)
	f, err := os.Open(open(t, content).Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := vhd.Append(f, digest.FromBytes(content)); err == nil {
		t.Error("no error")
	}
	if !bytes.Equal(read(t, f), content) {
		t.Error("the file has changed")
	}
}
