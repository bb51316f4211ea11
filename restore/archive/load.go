package archive

import (
	"cmp"
	_ "crypto/sha256" // so that digests are known
	_ "crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Open reads what a directory that [Read] filled says of its checkpoint.
func Open(dir string, limits Limits) (*Checkpoint, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return load(root, limits.withDefaults())
}

// config is config.dump: checkpointctl's lib.ContainerConfig, which containerd and CRI-O
// write, and what Podman's has besides.
type config struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	RootfsImage     string    `json:"rootfsImage,omitempty"`
	RootfsImageRef  string    `json:"rootfsImageRef,omitempty"`
	RootfsImageName string    `json:"rootfsImageName,omitempty"`
	RootfsImageID   string    `json:"rootfsImageID,omitempty"` // Podman's
	Runtime         string    `json:"runtime,omitempty"`
	Created         time.Time `json:"createdTime"`
	Checkpointed    time.Time `json:"checkpointedTime"`
	Restored        time.Time `json:"restoredTime"`
	WasRestored     bool      `json:"restored"`
}

// ours is lithify.json: what the other files do not say, in one format or another.
type ours struct {
	Version     int               `json:"version"`
	Base        Base              `json:"base"`
	Pod         Pod               `json:"pod,omitzero"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Host        Host              `json:"host,omitzero"`
}

const oursVersion = 1

// status is status.dump: CRI's ContainerStatus, of it what containerd uses.
type status struct {
	ID       string `json:"id"`
	Metadata struct {
		Name    string `json:"name"`
		Attempt uint32 `json:"attempt,omitempty"`
	} `json:"metadata"`
	State       int               `json:"state"`
	CreatedAt   int64             `json:"created_at,omitempty"`
	Image       imageSpec         `json:"image"`
	ImageRef    string            `json:"image_ref"`
	ImageID     string            `json:"image_id,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type imageSpec struct {
	Image         string `json:"image"`
	UserSpecified string `json:"user_specified_image"`
}

// The annotations of a spec that name the engine, the container and its pod.
const (
	managerKey   = "io.container.manager" // Podman: libpod, CRI-O: cri-o
	criPrefix    = "io.kubernetes.cri."   // containerd
	crioPrefix   = "io.kubernetes.cri-o." // CRI-O, and some of Podman's
	podNameLabel = "io.kubernetes.pod.name"
	podSpace     = "io.kubernetes.pod.namespace"
	podUID       = "io.kubernetes.pod.uid"
)

// PodOf is the pod that Kubernetes' labels name, but for its sandbox.
func PodOf(labels map[string]string) Pod {
	return Pod{Name: labels[podNameLabel], Namespace: labels[podSpace], UID: labels[podUID]}
}

func load(root *os.Root, limits Limits) (*Checkpoint, error) {
	l := loader{root, limits}
	var conf config
	if err := l.json(configFile, &conf); err != nil {
		return nil, l.needed(configFile, err)
	}
	spec, err := l.file(specFile)
	if err != nil {
		return nil, l.needed(specFile, err)
	}
	var head struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(spec, &head); err != nil {
		return nil, &EntryError{specFile, "it is no JSON of an OCI spec; make the checkpoint anew", err}
	}
	c := &Checkpoint{
		ID: conf.ID, Name: conf.Name,
		Runtime: runtimeName(conf.Runtime),
		Created: conf.Created.UTC(), Checkpointed: conf.Checkpointed.UTC(),
		Spec: spec,
	}
	switch head.Annotations[managerKey] {
	case "libpod":
		c.Format = Podman
		err = l.podman(c, conf, head.Annotations)
	case "cri-o":
		c.Format = CRIO
		err = l.crio(c, conf, head.Annotations)
	default:
		c.Format = Containerd
		err = l.containerd(c, conf, head.Annotations)
	}
	if err != nil {
		return nil, err
	}
	return c, l.ours(c)
}

// loader reads files of metadata.
type loader struct {
	root   *os.Root
	limits Limits
}

func (l loader) needed(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return refused(name, "the archive has not got it, so it is none of a checkpoint")
	}
	return err
}

// file reads a file that is a regular one and small.
func (l loader) file(name string) ([]byte, error) {
	f, _, err := openRegular(l.root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, l.limits.JSON+1))
	if err == nil && int64(len(b)) > l.limits.JSON {
		err = &LimitError{name, "bytes of metadata", l.limits.JSON}
	}
	return b, err
}

func (l loader) json(name string, v any) error {
	b, err := l.file(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return &EntryError{name, "it is not the JSON that it should be; make the checkpoint anew", err}
	}
	return nil
}

func (l loader) containerd(c *Checkpoint, conf config, annotations map[string]string) error {
	c.Base.Name = conf.RootfsImageName
	c.Base.Digest = digestOf(conf.RootfsImageRef)
	if c.Base.Digest == "" {
		c.Base.ID = imageID(conf.RootfsImageRef)
	}
	c.Pod = Pod{
		Name: annotations[criPrefix+"sandbox-name"], Namespace: annotations[criPrefix+"sandbox-namespace"],
		UID: annotations[criPrefix+"sandbox-uid"], SandboxID: annotations[criPrefix+"sandbox-id"],
	}
	if name := annotations[criPrefix+"container-name"]; name != "" {
		c.Name = name
	}
	var s status
	err := l.json(statusFile, &s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what containerd's own client writes has none
	}
	c.Labels, c.Annotations = s.Labels, s.Annotations
	if id := imageID(s.ImageID); id != "" {
		c.Base.ID = id
	}
	return err
}

func (l loader) crio(c *Checkpoint, conf config, annotations map[string]string) error {
	c.Base = Base{Name: conf.RootfsImageName, Digest: digestOf(conf.RootfsImageName), ID: imageID(conf.RootfsImageRef)}
	if c.Base.Digest != "" {
		c.Base.Name = conf.RootfsImage
	}
	c.Pod = PodOf(annotations)
	c.Pod.SandboxID = annotations[crioPrefix+"SandboxID"]
	var meta struct{ Name string }
	for key, into := range map[string]any{"Metadata": &meta, "Annotations": &c.Annotations, "Labels": &c.Labels} {
		value, ok := annotations[crioPrefix+key]
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(value), into); err != nil {
			return &EntryError{specFile, fmt.Sprintf("its annotation %s%s is not the JSON that it should be; make the checkpoint anew", crioPrefix, key), err}
		}
	}
	if meta.Name != "" {
		c.Name = meta.Name
	}
	return nil
}

func (l loader) podman(c *Checkpoint, conf config, annotations map[string]string) error {
	c.Base = Base{Name: conf.RootfsImageName, Digest: digestOf(conf.RootfsImageName), ID: imageID(conf.RootfsImageID)}
	c.Pod.SandboxID = annotations[crioPrefix+"SandboxID"]
	if !c.Checkpointed.IsZero() {
		return nil
	}
	// Podman does not write when it was; the inventory is what CRIU writes last but one.
	info, err := l.root.Stat(path.Join(ImagesDir, inventoryFile))
	if err == nil {
		c.Checkpointed = info.ModTime().UTC()
	}
	return nil
}

// ours completes the model by what only our archives have. It may not contradict the rest.
func (l loader) ours(c *Checkpoint) error {
	var o ours
	err := l.json(oursFile, &o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.Version != oursVersion {
		return refused(oursFile, "it is of version %d and this lithify reads version %d; use the one that made it, or delete it from the archive", o.Version, oursVersion)
	}
	if err := c.Base.complete(o.Base); err != nil {
		return err
	}
	if c.Format == Podman {
		c.Pod, c.Labels, c.Annotations = o.Pod, o.Labels, o.Annotations
	}
	c.Host = o.Host
	return nil
}

// complete adds what ours says of the base image to what the engine's file does.
func (b *Base) complete(ours Base) error {
	differ := func(ours, said any) error {
		return refused(oursFile, "it names the base image %s and %s names %s; make the checkpoint anew", ours, configFile, said)
	}
	for _, d := range []struct{ said, ours digest.Digest }{{b.Digest, ours.Digest}, {b.ID, ours.ID}} {
		if d.ours == "" {
			continue
		}
		if err := d.ours.Validate(); err != nil {
			return &EntryError{oursFile, fmt.Sprintf("the base image %q is no digest; make the checkpoint anew", d.ours), err}
		}
		if d.said != "" && d.said != d.ours {
			return differ(d.ours, d.said)
		}
	}
	if ours.Name != "" && ours.Name != b.Name {
		if repository(ours.Name) == "" || repository(ours.Name) != repository(b.Name) {
			return differ(ours.Name, b.Name)
		}
		b.Name = ours.Name
	}
	b.Digest, b.ID = cmp.Or(b.Digest, ours.Digest), cmp.Or(b.ID, ours.ID)
	return nil
}

// repository is a reference without tag and digest, or empty if it is none.
func repository(ref string) string {
	parsed, err := reference.ParseDockerRef(ref)
	if err != nil {
		return ""
	}
	return reference.TrimNamed(parsed).Name()
}

// digestOf is the digest of NAME@DIGEST.
func digestOf(ref string) digest.Digest {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return ""
	}
	if d, ok := parsed.(reference.Canonical); ok {
		return d.Digest()
	}
	return ""
}

// imageID is an image's ID, with or without its algorithm.
func imageID(id string) digest.Digest {
	d := digest.Digest(id)
	if !strings.Contains(id, ":") {
		d = digest.NewDigestFromEncoded(digest.SHA256, id)
	}
	if d.Validate() != nil {
		return ""
	}
	return d
}

// shim is containerd's name of runc.
const shim = "io.containerd.runc.v2"

// runtimeName is the name that CRI-O and Podman have for a runtime.
func runtimeName(name string) string {
	if name == shim {
		return "runc"
	}
	return name
}
