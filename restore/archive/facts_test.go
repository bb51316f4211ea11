package archive_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/restore/archive"
)

// hostileSpec asks for everything that a container must not get of an archive.
const hostileSpec = `{"ociVersion":"1.3.0","hostname":"h","root":{"path":"/"},
"process":{"terminal":true,"user":{"uid":0},"args":["sh"],"cwd":"/w","env":["A=1","TOKEN=secret","odd"],
 "capabilities":{"bounding":["CAP_SYS_ADMIN"]},"noNewPrivileges":false,"apparmorProfile":"unconfined"},
"hooks":{"createRuntime":[{"path":"/evil"}]},
"mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/data","type":"none","source":"/etc/shadow","options":["rbind"]}],
"linux":{"devices":[{"path":"/dev/sda","type":"b","major":8}],"seccomp":null,"cgroupsPath":"/evil",
 "namespaces":[{"type":"pid"},{"type":"network","path":"/proc/1/ns/net"}]},
"annotations":{"cdi.k8s.io/evil":"vendor.com/device=all","org.criu.config":"/evil.conf","run.oci.handler":"evil","io.kubernetes.cri.container-name":"web","kept":"yes"}}`

func TestDerive(t *testing.T) {
	got, err := archive.Derive([]byte(hostileSpec))
	if err != nil {
		t.Fatal(err)
	}
	want := &archive.Derived{
		Args: []string{"sh"}, Cwd: "/w", EnvNames: []string{"A", "TOKEN", "odd"}, Hostname: "h", Terminal: true,
		Namespaces: []string{"pid", "network"},
		Mounts:     []archive.Mount{{Destination: "/proc", Type: "proc"}, {Destination: "/data", Type: "none", Host: true}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"evil", "shadow", "sda", "SYS_ADMIN", "secret", "/proc/1", "unconfined", "vendor"} {
		if strings.Contains(string(raw), word) {
			t.Errorf("%s is in %s", word, raw)
		}
	}
	_, err = archive.Derive([]byte(`[]`))
	checkRefused(t, err, "spec.dump")
}

// TestWriteHostileSpec: CVE-2026-53492, an annotation that has CDI inject devices, and hooks
// do not go on into an archive for another engine.
func TestWriteHostileSpec(t *testing.T) {
	dir, c := whole(t)
	c.Spec = json.RawMessage(hostileSpec)
	for _, format := range formats {
		b := write(t, dir, c, format)
		for _, word := range []string{"cdi.k8s.io", "org.criu.config", "run.oci.handler", `"hooks"`} {
			if bytes.Contains(b, []byte(word)) {
				t.Errorf("%s: %s is in the archive", format, word)
			}
		}
		if !bytes.Contains(b, []byte(`"kept":"yes"`)) {
			t.Errorf("%s: another annotation is not", format)
		}
	}
}

// TestBaseByDigest: CVE-2026-50195, an archive that names a tag and has it made to name
// another image. All that is taken is a digest; a name without one stays a name.
func TestBaseByDigest(t *testing.T) {
	for ref, want := range map[string]archive.Base{
		"docker.io/library/busybox@" + baseDigest: {Name: "docker.io/library/busybox:1.36", Digest: baseDigest},
		"docker.io/library/busybox:1.36":          {Name: "docker.io/library/busybox:1.36"},
		imageID:                                   {Name: "docker.io/library/busybox:1.36", ID: imageID},
		"busybox@sha256:12":                       {Name: "docker.io/library/busybox:1.36"},
	} {
		members := containerdArchive()
		members[1].body = strings.Replace(members[1].body, "docker.io/library/busybox@"+baseDigest, ref, 1)
		c, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, members...)), filepath.Join(t.TempDir(), "ck"), archive.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if c.Base != want {
			t.Errorf("%s: base %+v, want %+v", ref, c.Base, want)
		}
	}
	// Our own file cannot make the name another image's, either.
	ours := `{"version":1,"base":{"name":"docker.io/evil/busybox:1.36","digest":"` + baseDigest + `"}}`
	_, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, containerdArchive(member{name: "lithify.json", body: ours})...)), filepath.Join(t.TempDir(), "ck"), archive.Limits{})
	checkRefused(t, err, "lithify.json", "evil")
}

func TestAnnotations(t *testing.T) {
	_, c := whole(t)
	all := c.ImageAnnotations()
	for key, want := range map[string]string{
		"org.criu.checkpoint.container.name":               "web", // containerd, checkpointctl
		"io.kubernetes.cri-o.annotations.checkpoint.name":  "web", // CRI-O
		"io.podman.annotations.checkpoint.runtime.name":    "runc",
		"io.podman.annotations.checkpoint.cgroups.version": "v2",
		"org.criu.checkpoint.engine.name":                  "containerd",
		"org.opencontainers.image.base.digest":             baseDigest,
		"org.criu.checkpoint.rootfsImageID":                imageID[len("sha256:"):],
		"io.github.lithify.checkpoint.cpu.features":        "avx2 sse4_2",
	} {
		if all[key] != want {
			t.Errorf("%s is %q, want %q", key, all[key], want)
		}
	}
	got, err := archive.FromAnnotations(all)
	if err != nil {
		t.Fatal(err)
	}
	want := *c
	want.Spec, want.Ignored, want.Labels, want.Annotations = nil, nil, nil, nil
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
}

// TestAnnotationsOfOthers: what checkpointctl build and Podman write.
func TestAnnotationsOfOthers(t *testing.T) {
	got, err := archive.FromAnnotations(map[string]string{
		"org.criu.checkpoint.container.name": "web", "org.criu.checkpoint.engine.name": "CRI-O",
		"org.criu.checkpoint.rootfsImageName": "busybox:1", "org.criu.checkpoint.rootfsImageID": "docker.io/library/busybox@" + baseDigest,
	})
	if err != nil || got.Format != archive.CRIO || got.Base.Digest != baseDigest || got.Base.Name != "busybox:1" {
		t.Errorf("checkpointctl: %+v, %v", got, err)
	}
	got, err = archive.FromAnnotations(map[string]string{
		"io.podman.annotations.checkpoint.name": "web", "io.podman.annotations.checkpoint.runtime.name": "crun",
		"io.podman.annotations.checkpoint.rootfsImageID": imageID[len("sha256:"):], "io.podman.annotations.checkpoint.host.kernel": "6.1.0",
	})
	if err != nil || got.Base.ID != imageID || got.Host.Kernel != "6.1.0" || got.Runtime != "crun" {
		t.Errorf("Podman: %+v, %v", got, err)
	}
	for key, value := range map[string]string{
		"org.opencontainers.image.base.digest": "latest", "org.opencontainers.image.created": "yesterday", "io.github.lithify.checkpoint.cpu.xsave": "-1",
	} {
		_, err := archive.FromAnnotations(map[string]string{archive.AnnotationName: "web", key: value})
		checkRefused(t, err, "web")
	}
	for _, key := range []string{archive.AnnotationName, "org.criu.checkpoint.host.kernel"} {
		_, err := archive.FromAnnotations(map[string]string{archive.AnnotationName: "web", key: "web\x1b[2J"})
		checkRefused(t, err, "cannot be printed")
	}
	_, err = archive.FromAnnotations(nil)
	checkRefused(t, err, "none of a checkpoint")
}

func TestCanRestore(t *testing.T) {
	host := archive.Host{Arch: "amd64", Kernel: "6.1.0-13-amd64", CRIU: "4.1.1", Cgroup: "2",
		CPU: archive.CPU{Model: "here", Features: []string{"avx", "avx2", "sse4_2"}, XSave: 832}}
	for _, tt := range []struct {
		name   string
		change func(*archive.Host)
		want   []string // beginnings of the reasons
	}{
		{"the same", func(*archive.Host) {}, nil},
		{"nothing known", func(h *archive.Host) { *h = archive.Host{} }, nil},
		{"lesser", func(h *archive.Host) { h.Kernel, h.CRIU, h.CPU.Features = "5.10.1", "3.17", []string{"avx"} }, nil},
		{"patch level", func(h *archive.Host) { h.Kernel, h.CRIU = "6.1.99", "4.1.9" }, nil},
		{"other architecture", func(h *archive.Host) { h.Arch, h.CPU.Features = "arm64", []string{"sve"} }, []string{"arch: it was dumped on arm64"}},
		{"newer kernel", func(h *archive.Host) { h.Kernel = "6.12.1" }, []string{"kernel: it was dumped on Linux 6.12.1"}},
		{"newer CRIU", func(h *archive.Host) { h.CRIU = "4.2" }, []string{"criu: CRIU 4.2 dumped it"}},
		{"other control groups", func(h *archive.Host) { h.Cgroup = "1" }, []string{"cgroup: "}},
		{"instructions", func(h *archive.Host) {
			h.CPU.Features = []string{"amx_tile", "avx", "avx512f", "hypervisor", "md_clear"}
		}, []string{"cpu: it may use amx_tile, avx512f, which"}},
		{"registers", func(h *archive.Host) { h.CPU.XSave = 2696 }, []string{"cpu: it reserves 2696 bytes"}},
		{"all at once", func(h *archive.Host) { h.Kernel, h.CRIU, h.CPU.XSave = "7.0", "5.0", 1 }, []string{"kernel", "criu", "cpu"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from := host
			from.CPU.Features = slices.Clone(host.CPU.Features)
			tt.change(&from)
			got := host.CanRestore(from)
			ok := slices.EqualFunc(got, tt.want, func(r archive.Reason, begin string) bool { return strings.HasPrefix(r.String(), begin) })
			if !ok {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
