package commit

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert/pack"
)

// TestEditConfig looks at the inside: what a config keeps cannot be seen from the edge
// without a containerd.
func TestEditConfig(t *testing.T) {
	const raw = `{
		"architecture": "amd64", "os": "linux", "variant": "v3", "author": "the base's",
		"container": "1234", "container_config": {"Cmd": ["old"]},
		"config": {"Cmd": ["a"], "Entrypoint": ["/e"], "Env": ["PATH=/bin", "A=1"], "Healthcheck": {"Test": ["CMD", "x"]}, "Shell": ["/bin/bash"]},
		"rootfs": {"type": "layers", "diff_ids": ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]},
		"history": [{"created_by": "base"}], "x-unknown": 7
	}`
	b := &base{raw: []byte(raw)}
	if err := json.Unmarshal(b.raw, &b.config); err != nil {
		t.Fatal(err)
	}
	diffID := digest.FromString("layer")
	out, err := editConfig(b, &pack.Layer{DiffID: diffID}, Options{
		Message: "patched", Author: "me",
		Changes: []string{`ENV A="2 3" B=$A`, `ENTRYPOINT ["/f"]`, "LABEL k=v", "EXPOSE 80 53/udp", "WORKDIR sub", "USER 7", "VOLUME /data", "STOPSIGNAL SIGQUIT"},
	}, time.Unix(1, 0).UTC())
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	const edited = `{
		"architecture": "amd64", "os": "linux", "variant": "v3", "author": "me", "created": "1970-01-01T00:00:01Z",
		"config": {"Entrypoint": ["/f"], "Env": ["PATH=/bin", "A=2 3", "B=1"], "Healthcheck": {"Test": ["CMD", "x"]}, "Shell": ["/bin/bash"],
			"Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "WorkingDir": "/sub", "User": "7", "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT"},
		"rootfs": {"type": "layers", "diff_ids": ["sha256:0000000000000000000000000000000000000000000000000000000000000000", "DIFFID"]},
		"history": [{"created_by": "base"}, {"created": "1970-01-01T00:00:01Z", "created_by": "lithify commit", "author": "me", "comment": "patched"}], "x-unknown": 7
	}`
	if err := json.Unmarshal([]byte(edited), &want); err != nil {
		t.Fatal(err)
	}
	want.(map[string]any)["rootfs"].(map[string]any)["diff_ids"].([]any)[1] = diffID.String()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// A new entry point takes the old one's command away, but not one that was asked for.
func TestEntrypoint(t *testing.T) {
	for name, tc := range map[string]struct{ changes, want []string }{
		"alone":          {[]string{`ENTRYPOINT ["/f"]`}, nil},
		"command before": {[]string{`CMD ["x"]`, `ENTRYPOINT ["/f"]`}, []string{"x"}},
		"command after":  {[]string{`ENTRYPOINT ["/f"]`, `CMD ["x"]`}, []string{"x"}},
	} {
		c := ocispec.ImageConfig{Entrypoint: []string{"/e"}, Cmd: []string{"old"}}
		if err := apply(&c, tc.changes); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, c.Cmd); diff != "" {
			t.Errorf("%s: command (-want +got):\n%s", name, diff)
		}
	}
}

// A base of Docker's media types stays one, so that its layers' keys do.
func TestFamily(t *testing.T) {
	for base, want := range map[string]string{
		"application/vnd.docker.distribution.manifest.v2+json": "application/vnd.docker.image.rootfs.diff.tar.gzip",
		ocispec.MediaTypeImageManifest:                         ocispec.MediaTypeImageLayerGzip,
	} {
		b := baseOf(base)
		s := &source{made: map[digest.Digest][]byte{}, layer: &pack.Layer{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("l")}}}
		if err := s.add(b, Options{}); err != nil {
			t.Fatal(err)
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(s.made[s.root.Digest], &m); err != nil {
			t.Fatal(err)
		}
		if s.root.MediaType != base || m.MediaType != base || m.Layers[len(m.Layers)-1].MediaType != want {
			t.Errorf("on %s: manifest %s with a layer of %s", base, m.MediaType, m.Layers[len(m.Layers)-1].MediaType)
		}
	}
}

func baseOf(mediaType string) *base {
	return &base{desc: ocispec.Descriptor{MediaType: mediaType}, raw: []byte(`{"config":{}}`), manifest: ocispec.Manifest{
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig}, Layers: []ocispec.Descriptor{{MediaType: "base"}},
	}}
}
