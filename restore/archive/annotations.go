package archive

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of a checkpoint image's manifest. Each engine knows one by a key of its own
// and by nothing else: containerd 2.1 to 2.3 and checkpointctl by [AnnotationName], CRI-O by
// crioAnnotation, Podman by that of the runtime.
const (
	AnnotationName = criuPrefix + "container.name"

	criuPrefix     = "org.criu.checkpoint."              // checkpointctl lib/annotations.go
	podmanPrefix   = "io.podman.annotations.checkpoint." // Podman pkg/annotations
	crioAnnotation = "io.kubernetes.cri-o.annotations.checkpoint.name"
	oursPrefix     = "io.github.lithify.checkpoint."
)

// annotation ties a fact to the keys that carry it. The first that is there counts.
type annotation struct {
	value *string
	keys  []string
}

// annotated lists the facts of c; v has those that are no strings.
func (c *Checkpoint) annotated(v *annotationValues) []annotation {
	return []annotation{
		{&c.Name, []string{AnnotationName, podmanPrefix + "name", crioAnnotation}},
		{(*string)(&c.Format), []string{criuPrefix + "engine.name"}},
		{&c.ID, []string{oursPrefix + "id"}},
		{&c.Pod.Name, []string{criuPrefix + "pod.name"}},
		{&c.Pod.Namespace, []string{criuPrefix + "pod.namespace"}},
		{&c.Pod.UID, []string{criuPrefix + "pod.uid"}},
		{&c.Pod.SandboxID, []string{criuPrefix + "pod.id"}},
		{&c.Runtime, []string{criuPrefix + "runtime.name", podmanPrefix + "runtime.name"}},
		{&c.Base.Name, []string{ocispec.AnnotationBaseImageName, criuPrefix + "rootfsImageName", criuPrefix + "rootfsImageUserRequested", podmanPrefix + "rootfsImageName", podmanPrefix + "rawImageName"}},
		{&v.digest, []string{ocispec.AnnotationBaseImageDigest, criuPrefix + "rootfsImageSha"}},
		{&v.id, []string{criuPrefix + "rootfsImageID", podmanPrefix + "rootfsImageID"}},
		{&v.created, []string{oursPrefix + "created"}},
		{&v.checkpointed, []string{ocispec.AnnotationCreated}},
		{&c.Host.Arch, []string{criuPrefix + "host.arch", podmanPrefix + "host.arch"}},
		{&c.Host.Kernel, []string{criuPrefix + "host.kernel", podmanPrefix + "host.kernel"}},
		{&c.Host.CRIU, []string{criuPrefix + "criu.version", podmanPrefix + "criu.version"}},
		{&c.Host.Runtime, []string{criuPrefix + "runtime.version", podmanPrefix + "runtime.version"}},
		{&v.cgroup, []string{criuPrefix + "cgroup.version", podmanPrefix + "cgroups.version"}},
		{&c.Host.CPU.Vendor, []string{oursPrefix + "cpu.vendor"}},
		{&c.Host.CPU.Model, []string{oursPrefix + "cpu.model"}},
		{&v.features, []string{oursPrefix + "cpu.features"}},
		{&v.xsave, []string{oursPrefix + "cpu.xsave"}},
	}
}

// annotationValues are facts as annotations have them.
type annotationValues struct{ digest, id, created, checkpointed, cgroup, features, xsave string }

// ImageAnnotations are those for the manifest of an image that holds the checkpoint's
// archive: whatever any engine looks for, and the facts of the host.
func (c *Checkpoint) ImageAnnotations() map[string]string {
	v := annotationValues{
		digest:       c.Base.Digest.String(),
		features:     strings.Join(c.Host.CPU.Features, " "),
		created:      formatTime(c.Created),
		checkpointed: formatTime(c.Checkpointed),
	}
	if c.Base.ID != "" {
		v.id = c.Base.ID.Encoded()
	}
	if c.Host.Cgroup != "" {
		v.cgroup = "v" + c.Host.Cgroup
	}
	if c.Host.CPU.XSave != 0 {
		v.xsave = strconv.FormatUint(uint64(c.Host.CPU.XSave), 10)
	}
	named := *c
	named.Runtime = runtimeName(c.Runtime) // Podman compares it with its own
	all := map[string]string{}
	for _, a := range named.annotated(&v) {
		for _, key := range a.keys {
			if *a.value != "" {
				all[key] = *a.value
			}
		}
	}
	return all
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// FromAnnotations reads what the manifest of a checkpoint image says of the checkpoint,
// of whatever engine the image is, without a look into it. A manifest without the key of any
// engine, with a digest or number that is none, or with what would do something to a terminal
// is an [*EntryError].
func FromAnnotations(all map[string]string) (*Checkpoint, error) {
	c, v := &Checkpoint{}, annotationValues{}
	for _, a := range c.annotated(&v) {
		for _, key := range a.keys {
			if *a.value == "" {
				*a.value = all[key]
			}
			if strings.ContainsFunc(*a.value, func(r rune) bool { return !unicode.IsPrint(r) }) { // they are shown to people
				return nil, refused(key, "the annotation has characters that cannot be printed")
			}
		}
	}
	if c.Name == "" {
		return nil, refused(AnnotationName, "the image has no such annotation, so that it is none of a checkpoint")
	}
	c.Format = Format(strings.ToLower(string(c.Format)))
	c.Runtime = runtimeName(c.Runtime)
	c.Host.Cgroup = strings.TrimPrefix(v.cgroup, "v")
	c.Host.CPU.Features = strings.Fields(v.features)
	if v.id != "" {
		// checkpointctl and containerd have a reference with a digest there.
		if c.Base.ID = imageID(v.id); c.Base.ID == "" && v.digest == "" {
			v.digest = digestOf(v.id).String()
		}
	}
	c.Base.Digest = digest.Digest(v.digest)
	var err error
	if v.digest != "" {
		err = c.Base.Digest.Validate()
	}
	if err == nil && v.created != "" {
		c.Created, err = time.Parse(time.RFC3339Nano, v.created)
	}
	if err == nil && v.checkpointed != "" {
		c.Checkpointed, err = time.Parse(time.RFC3339Nano, v.checkpointed)
	}
	if err == nil && v.xsave != "" {
		var n uint64
		n, err = strconv.ParseUint(v.xsave, 10, 32)
		c.Host.CPU.XSave = uint32(n)
	}
	if err != nil {
		return nil, &EntryError{"manifest", fmt.Sprintf("an annotation of %s is not what it should be; publish it anew", c.Name), err}
	}
	return c, nil
}
