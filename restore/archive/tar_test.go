package archive_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// member is an entry of a tar that a test makes.
type member struct {
	name, body, link string
	kind             byte
	mode             int64
	nanos            int // of its time
	pax              map[string]string
}

var someTime = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func makeTar(t testing.TB, members ...member) []byte {
	t.Helper()
	b, err := tarOf(members...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tarOf(members ...member) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		hdr := &tar.Header{
			Name: m.name, Typeflag: cmp.Or(m.kind, tar.TypeReg), Linkname: m.link,
			Size: int64(len(m.body)), Mode: cmp.Or(m.mode, 0o644), ModTime: someTime.Add(time.Duration(m.nanos)), PAXRecords: m.pax, Format: tar.FormatPAX,
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			hdr = &tar.Header{Typeflag: hdr.Typeflag, Name: m.name, PAXRecords: m.pax}
		}
		if err := w.WriteHeader(hdr); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		if _, err := w.Write([]byte(m.body)); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// containerdArchive are the members of an archive as containerd's CRI plugin writes it,
// without CRIU's images.
func containerdArchive(more ...member) []member {
	return append([]member{
		{name: "checkpoint/", kind: tar.TypeDir, mode: 0o700},
		{name: "config.dump", body: `{"id":"0123456789abcdef","name":"web_pod_ns_uid_0","rootfsImage":"docker.io/library/busybox:1.36",` +
			`"rootfsImageRef":"docker.io/library/busybox@` + baseDigest + `","rootfsImageName":"docker.io/library/busybox:1.36",` +
			`"runtime":"io.containerd.runc.v2","createdTime":"2026-11-26T11:00:00.5Z","checkpointedTime":"2026-11-26T12:00:00.25Z",` +
			`"restoredTime":"0001-01-01T00:00:00Z","restored":false}`},
		{name: "spec.dump", body: `{"ociVersion":"1.3.0","process":{"args":["sh","-c","sleep 1"],"cwd":"/srv","env":["A=1","TOKEN=secret"]},"hostname":"web-0",` +
			`"annotations":{"io.kubernetes.cri.container-name":"web","io.kubernetes.cri.sandbox-name":"pod","io.kubernetes.cri.sandbox-namespace":"ns",` +
			`"io.kubernetes.cri.sandbox-uid":"uid","io.kubernetes.cri.sandbox-id":"fedcba"}}`},
		{name: "status", body: `{"Version":"v1","Status":{"Pid":7}}`},
		{name: "status.dump", body: `{"id":"0123456789abcdef","metadata":{"name":"web"},"state":1,"image":{"image":"docker.io/library/busybox:1.36"},` +
			`"image_ref":"docker.io/library/busybox@` + baseDigest + `","labels":{"io.kubernetes.pod.name":"pod"},"annotations":{"io.kubernetes.container.hash":"c0ffee"}}`},
	}, more...)
}

const baseDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

// images are CRIU's images as members of an archive.
func images(t testing.TB, dir string) []member {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []member
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{name: path.Join("checkpoint", e.Name()), body: string(b), mode: 0o600})
	}
	return all
}

// tree lists the files below a directory.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && name != "." {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}
