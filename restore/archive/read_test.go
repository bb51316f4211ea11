package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/lithify/lithify/restore/archive"
)

// checkRefused looks that an error is of the kind and names entry and reason.
func checkRefused(t *testing.T, err error, parts ...string) {
	t.Helper()
	if !errdefs.IsInvalidArgument(err) {
		t.Fatalf("got %v, want an invalid argument", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, want it to say %q", err, part)
		}
	}
}

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func TestReadContainerd(t *testing.T) {
	plain := makeTar(t, containerdArchive(
		member{name: "checkpoint/inventory.img", body: "i", mode: 0o4755},
		member{name: "container.log", body: "hello\n"},
		member{name: "dump.log", body: "dumped\n"},
		member{name: "rootfs-diff.tar", body: "d"},
		member{name: "volumes/", kind: tar.TypeDir},
		member{name: "volumes/data.tar", body: "v"},
	)...)
	for name, b := range map[string][]byte{"plain": plain, "gzip": gzipped(t, plain), "zstd": zstded(t, plain)} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ck")
			got, err := archive.Read(t.Context(), bytes.NewReader(b), dir, archive.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			want := &archive.Checkpoint{
				Format: archive.Containerd, ID: "0123456789abcdef", Name: "web", Runtime: "runc",
				Pod:          archive.Pod{Name: "pod", Namespace: "ns", UID: "uid", SandboxID: "fedcba"},
				Base:         archive.Base{Name: "docker.io/library/busybox:1.36", Digest: baseDigest},
				Created:      time.Date(2026, 11, 26, 11, 0, 0, 5e8, time.UTC),
				Checkpointed: time.Date(2026, 11, 26, 12, 0, 0, 25e7, time.UTC),
				Labels:       map[string]string{"io.kubernetes.pod.name": "pod"},
				Annotations:  map[string]string{"io.kubernetes.container.hash": "c0ffee"},
				Ignored:      []string{"status", "volumes", "volumes/data.tar"},
			}
			want.Spec = got.Spec
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if want := []string{"checkpoint", "checkpoint/inventory.img", "config.dump", "container.log", "dump.log", "rootfs-diff.tar", "spec.dump", "status.dump"}; !slices.Equal(tree(t, dir), want) {
				t.Errorf("files %v, want %v", tree(t, dir), want)
			}
			info, err := os.Stat(filepath.Join(dir, "checkpoint/inventory.img"))
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
			}
			again, err := archive.Open(dir, archive.Limits{})
			if got.Ignored = nil; err != nil || cmp.Diff(got, again) != "" {
				t.Errorf("opened again: %v %s", err, cmp.Diff(got, again))
			}
		})
	}
}

// TestReadRefuses is what hostile and broken archives meet. Every refusal names the entry
// and leaves nothing behind.
func TestReadRefuses(t *testing.T) {
	file := func(name string) member { return member{name: name, body: "x"} }
	for _, tt := range []struct {
		name    string
		member  member
		reasons []string
	}{
		// CVE-2026-53489: the log was copied from wherever it led.
		{"CVE-2026-53489 container.log", member{name: "container.log", kind: tar.TypeSymlink, link: "/etc/shadow"}, []string{`"container.log"`, "symbolic link", "/etc/shadow"}},
		{"a log of CRI-O that is a link", member{name: "io.kubernetes.cri-o.LogPath", kind: tar.TypeSymlink, link: "/etc/shadow"}, []string{"symbolic link"}},
		{"a directory that is a link", member{name: "volumes", kind: tar.TypeSymlink, link: "/etc"}, []string{"volumes", "symbolic link"}},
		{"hard link", member{name: "dump.log", kind: tar.TypeLink, link: "/etc/shadow"}, []string{"dump.log", "hard link"}},
		{"hard link inside", member{name: "dump.log", kind: tar.TypeLink, link: "config.dump"}, []string{"hard link"}},
		{"parent that leads out", member{name: "checkpoint/parent", kind: tar.TypeSymlink, link: "../../other"}, []string{"checkpoint/parent", "symbolic link"}},
		{"character device", member{name: "dump.log", kind: tar.TypeChar}, []string{"character device"}},
		{"block device", member{name: "checkpoint/pages-1.img", kind: tar.TypeBlock}, []string{"block device"}},
		{"fifo", member{name: "container.log", kind: tar.TypeFifo}, []string{"fifo"}},
		{"unknown type", member{name: "container.log", kind: 'Z'}, []string{"unknown type"}},
		{"absolute", file("/etc/cron.d/x"), []string{"/etc/cron.d/x", "absolute"}},
		{"absolute behind a dot", file(".//etc/x"), []string{"absolute"}},
		{"dot dot", file("../x"), []string{"../x", "leads elsewhere"}},
		{"dot dot inside", file("checkpoint/../../x"), []string{"leads elsewhere"}},
		{"dot dot at the end", member{name: "volumes/..", kind: tar.TypeDir}, []string{"leads elsewhere"}},
		{"not clean", file("checkpoint//core-2.img"), []string{"leads elsewhere"}},
		{"backslash", file(`..\x`), []string{"bytes that no engine writes"}},
		{"control characters", file("dump.log\x1b[2J"), []string{"bytes that no engine writes"}},
		{"not UTF-8", file("a\xff"), []string{"bytes that no engine writes"}},
		{"long name", file(strings.Repeat("n", 5000)), []string{"bytes of a name"}},
		{"twice", file("config.dump"), []string{"config.dump", "two of it"}},
		{"twice with another spelling", file("./config.dump"), []string{"two of it"}},
		{"a directory twice", member{name: "checkpoint", kind: tar.TypeDir}, []string{"two of it"}},
		{"a file for a directory", file("pre-checkpoint"), []string{"should be a directory"}},
		{"a directory for a file", member{name: "dump.log", kind: tar.TypeDir}, []string{"should be a file"}},
		{"a directory among the images", member{name: "checkpoint/x", kind: tar.TypeDir}, []string{"files alone"}},
		{"a file below the images", file("checkpoint/x/core-1.img"), []string{"CRIU makes no file"}},
		{"a name that CRIU does not make", file("checkpoint/run.sh"), []string{"CRIU makes no file"}},
		{"a hidden name", file("checkpoint/.img"), []string{"CRIU makes no file"}},
		{"ours of another version", member{name: "lithify.json", body: `{"version":7}`}, []string{"version 7"}},
		{"ours with another base", member{name: "lithify.json", body: `{"version":1,"base":{"digest":"sha256:` + strings.Repeat("2", 64) + `"}}`}, []string{"config.dump names"}},
		{"ours with no digest", member{name: "lithify.json", body: `{"version":1,"base":{"id":"latest"}}`}, []string{"is no digest"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			above := t.TempDir()
			_, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, containerdArchive(tt.member)...)), filepath.Join(above, "ck"), archive.Limits{})
			checkRefused(t, err, tt.reasons...)
			if left := tree(t, above); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestReadSparse: archive/tar writes none, so that a header is made one.
func TestReadSparse(t *testing.T) {
	b := makeTar(t, member{name: "dump.log"})
	copy(b[257:], "ustar  \x00")
	b[156] = tar.TypeGNUSparse
	copy(b[483:], "00000200000") // the size that it claims
	fixSum(b[:512])
	_, err := archive.Read(t.Context(), bytes.NewReader(b), filepath.Join(t.TempDir(), "ck"), archive.Limits{})
	checkRefused(t, err, "dump.log", "sparse")
}

// TestReadKeepsDir: a directory that was there stays, empty.
func TestReadKeepsDir(t *testing.T) {
	dir := t.TempDir()
	b := makeTar(t, containerdArchive(member{name: "checkpoint/core-1.img", body: "x"}, member{name: "../x"})...)
	if _, err := archive.Read(t.Context(), bytes.NewReader(b), dir, archive.Limits{}); err == nil || len(tree(t, dir)) > 0 {
		t.Errorf("error %v, files %v", err, tree(t, dir))
	}
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Read(t.Context(), bytes.NewReader(b), dir, archive.Limits{}); !errors.Is(err, os.ErrExist) || !slices.Equal(tree(t, dir), []string{"mine"}) {
		t.Errorf("error %v, files %v", err, tree(t, dir))
	}
}

func TestReadParent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ck")
	b := makeTar(t, containerdArchive(
		member{name: "checkpoint/parent", kind: tar.TypeSymlink, link: "../pre-checkpoint"},
		member{name: "pre-checkpoint/", kind: tar.TypeDir},
		member{name: "pre-checkpoint/pages-1.img", body: "x"})...)
	if _, err := archive.Read(t.Context(), bytes.NewReader(b), dir, archive.Limits{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "checkpoint/parent/pages-1.img")); err != nil {
		t.Error(err)
	}
}

func TestReadLimits(t *testing.T) {
	b := makeTar(t, containerdArchive(member{name: "deleted.files", body: strings.Repeat(" ", 2000)}, member{name: "checkpoint/pages-1.img", body: strings.Repeat("\x00", 80<<20)})...)
	for name, tt := range map[string]struct {
		limits archive.Limits
		want   string
	}{
		"bytes":    {archive.Limits{Bytes: 1 << 20}, "1048576 bytes"},
		"entries":  {archive.Limits{Entries: 3}, "3 entries"},
		"metadata": {archive.Limits{JSON: 1000}, `"deleted.files" passes the limit of 1000 bytes of metadata`},
		"ratio":    {archive.Limits{Ratio: 100}, "100 decompressed bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ck")
			_, err := archive.Read(t.Context(), bytes.NewReader(zstded(t, b)), dir, tt.limits)
			checkRefused(t, err, tt.want)
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("left behind: %v", err)
			}
		})
	}
	if _, err := archive.Read(t.Context(), bytes.NewReader(zstded(t, b)), filepath.Join(t.TempDir(), "ck"), archive.Limits{}); err != nil {
		t.Errorf("within the limits: %v", err)
	}
}

// TestReadDamaged cuts an archive near its end, between blocks and in them, and puts something behind it.
func TestReadDamaged(t *testing.T) {
	b := makeTar(t, containerdArchive(member{name: "dump.log", body: strings.Repeat("\x00", 2048)})...)
	for n := 128; n < 3<<10; n += 128 {
		if _, err := archive.Read(t.Context(), bytes.NewReader(b[:len(b)-n]), filepath.Join(t.TempDir(), "ck"), archive.Limits{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("without its last %d bytes: %v, want %v", n, err, io.ErrUnexpectedEOF)
		}
	}
	more := append(bytes.Clone(b), makeTar(t, member{name: "config.dump", body: "{}"})...)
	_, err := archive.Read(t.Context(), bytes.NewReader(more), filepath.Join(t.TempDir(), "ck"), archive.Limits{})
	checkRefused(t, err, "follows the end")
	for _, name := range []string{"config.dump", "spec.dump"} {
		rest := slices.DeleteFunc(containerdArchive(), func(m member) bool { return m.name == name })
		_, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, rest...)), filepath.Join(t.TempDir(), "ck"), archive.Limits{})
		checkRefused(t, err, name, "none of a checkpoint")
	}
}

func TestReadCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := archive.Read(ctx, bytes.NewReader(makeTar(t, containerdArchive()...)), filepath.Join(t.TempDir(), "ck"), archive.Limits{}); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}
