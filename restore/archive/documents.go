package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// document is a file of metadata.
type document struct {
	name  string
	value any
}

// documents are those that the format's reader wants.
func (a *archiver) documents() ([]document, error) {
	if err := a.complete(); err != nil {
		return nil, err
	}
	spec, err := a.spec()
	if err != nil {
		return nil, err
	}
	docs := []document{{configFile, a.config()}, {specFile, spec}, {oursFile, ours{oursVersion, a.Base, a.Pod, a.Labels, a.Annotations, a.Host}}}
	switch a.o.Format {
	case Podman:
		docs[0].value, err = a.podmanConfig(spec)
	case Containerd:
		docs = append(docs, document{statusFile, a.status()}, document{"status", a.state()})
	}
	if err != nil || a.o.Format == Containerd {
		return docs, err
	}
	deleted, err := a.changes.deletions(a.o.Below)
	if len(deleted) == 0 {
		return docs, err
	}
	for i := range deleted {
		deleted[i] = "/" + deleted[i]
	}
	return append(docs, document{deletedFile, deleted}), err
}

// complete says what the format's reader needs and is not there.
func (a *archiver) complete() error {
	need := func(what string) error {
		return fmt.Errorf("its reader needs %s: %w", what, errdefs.ErrFailedPrecondition)
	}
	switch {
	case a.o.Format != Containerd && a.o.Format != CRIO && a.o.Format != Podman:
		return fmt.Errorf("the format is one of %s, %s, %s: %w", Containerd, CRIO, Podman, errdefs.ErrInvalidArgument)
	case a.ID == "" || a.Name == "":
		return need("the container's ID and name")
	case repository(a.Base.Name) == "":
		return need(fmt.Sprintf("the name of the base image, and %q is none", a.Base.Name))
	case a.o.Format == Containerd && a.Base.Digest == "":
		return need("the digest of the base image's manifest; find it by the name " + a.Base.Name)
	case a.o.Format != Containerd && a.Base.ID == "":
		return need("the ID of the base image, which is the digest of its config")
	case a.Runtime == "":
		return need("the name of the OCI runtime")
	}
	return nil
}

// pinned is the base image's name without its tag and with its digest.
func pinned(b Base) string { return repository(b.Name) + "@" + b.Digest.String() }

func (a *archiver) config() config {
	c := config{
		ID: a.ID, Name: a.Name, Runtime: runtimeName(a.Runtime),
		RootfsImage: a.Base.Name, RootfsImageName: a.Base.Name,
		Created: a.Created.UTC(), Checkpointed: a.Checkpointed.UTC(),
	}
	if a.o.Format == CRIO {
		c.RootfsImageRef = a.Base.ID.Encoded()
		if a.Base.Digest != "" {
			c.RootfsImageName = pinned(a.Base) // as CRI-O itself writes it
		}
		return c
	}
	c.RootfsImageRef = pinned(a.Base)
	if c.Runtime == "runc" {
		c.Runtime = shim
	}
	return c
}

// status is what containerd takes labels and annotations from. It writes to the latter
// without a look whether there are any.
func (a *archiver) status() status {
	s := status{
		ID: a.ID, State: 1, CreatedAt: nanoseconds(a.Created), // 1: running
		Image:    imageSpec{a.Base.Name, a.Base.Name},
		ImageRef: pinned(a.Base), ImageID: a.Base.ID.String(), Labels: a.Labels, Annotations: a.Annotations,
	}
	s.Metadata.Name = a.Name
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	return s
}

// state is containerd's own status file, for checkpointctl.
func (a *archiver) state() any {
	return struct{ CreatedAt, StartedAt, FinishedAt int64 }{nanoseconds(a.Created), nanoseconds(a.Created), 0}
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Annotations that have the engine do something on the host.
var actingAnnotations = []string{"cdi.k8s.io/", "org.criu.config", "run.oci.", "io.podman.annotations.cdi", "module.wasm."}

// spec is the spec with the annotations by which the format's reader finds its way, and
// without its hooks, which an engine would run on the host.
func (a *archiver) spec() (map[string]json.RawMessage, error) {
	spec := map[string]json.RawMessage{}
	var annotations map[string]string
	err := json.Unmarshal(a.Spec, &spec)
	if err == nil && spec["annotations"] != nil {
		err = json.Unmarshal(spec["annotations"], &annotations)
	}
	if err != nil {
		return nil, &EntryError{specFile, "it is no JSON of an OCI spec", err}
	}
	maps.DeleteFunc(annotations, func(key, _ string) bool {
		for _, prefix := range append(actingAnnotations, managerKey, criPrefix, crioPrefix) {
			if strings.HasPrefix(key, prefix) {
				return true
			}
		}
		return false
	})
	if annotations == nil {
		annotations = map[string]string{}
	}
	own, err := a.annotations()
	if err != nil {
		return nil, err
	}
	maps.Copy(annotations, own)
	delete(spec, "hooks")
	spec["annotations"], err = json.Marshal(annotations)
	return spec, err
}

func (a *archiver) annotations() (map[string]string, error) {
	own := map[string]string{}
	set := func(key, value string) {
		if value != "" {
			own[key] = value
		}
	}
	switch a.o.Format {
	case Containerd:
		set(criPrefix+"container-type", "container")
		set(criPrefix+"container-name", a.Name)
		set(criPrefix+"image-name", a.Base.Name)
		set(criPrefix+"sandbox-id", a.Pod.SandboxID)
		set(criPrefix+"sandbox-name", a.Pod.Name)
		set(criPrefix+"sandbox-namespace", a.Pod.Namespace)
		set(criPrefix+"sandbox-uid", a.Pod.UID)
	case Podman:
		set(managerKey, "libpod")
		set(crioPrefix+"Created", a.Created.UTC().Format(time.RFC3339Nano))
		set(crioPrefix+"SandboxID", a.Pod.SandboxID)
	case CRIO:
		set(managerKey, "cri-o")
		set(crioPrefix+"ContainerType", "container")
		set(crioPrefix+"ContainerID", a.ID)
		set(crioPrefix+"Name", a.Name)
		set(crioPrefix+"Created", a.Created.UTC().Format(time.RFC3339Nano))
		set(crioPrefix+"Image", a.Base.ID.Encoded())
		set(crioPrefix+"ImageName", a.Base.Name)
		set(crioPrefix+"SandboxID", a.Pod.SandboxID)
		set(podNameLabel, a.Pod.Name)
		set(podSpace, a.Pod.Namespace)
		set(podUID, a.Pod.UID)
		for key, value := range map[string]any{
			"Metadata": map[string]string{"name": a.Name}, "Annotations": orEmpty(a.Annotations), "Labels": orEmpty(a.Labels),
		} {
			raw, err := json.Marshal(value)
			if err != nil {
				return nil, err
			}
			set(crioPrefix+key, string(raw))
		}
	}
	return own, nil
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// podmanConfig is libpod's configuration of a container: what Podman itself wrote, if it is
// its archive, else what it cannot do without (libpod/container_config.go).
func (a *archiver) podmanConfig(spec map[string]json.RawMessage) (any, error) {
	all := map[string]any{}
	if a.Format == Podman {
		err := loader{a.changes.root, a.changes.limits}.json(configFile, &all)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	image := a.Base.Name
	if a.Base.Digest != "" {
		image = pinned(a.Base) // Podman pulls what is named here
	}
	maps.Copy(all, map[string]any{
		"id": a.ID, "name": a.Name, "runtime": runtimeName(a.Runtime), "createdTime": a.Created.UTC(),
		"checkpointedTime": a.Checkpointed.UTC(),
		"rootfsImageID":    a.Base.ID.Encoded(), "rootfsImageName": image, "RawImageName": a.Base.Name,
	})
	for key, value := range map[string]any{
		"spec":       spec,
		"shmSize":    64 << 20,
		"logDriver":  "k8s-file",
		"stopSignal": 15, "stopTimeout": 10,
		"cgroupsMode": "enabled", "sdnotifyMode": "container", "umask": "0022",
		"idMappingsOptions": map[string]bool{"HostUIDMapping": true, "HostGIDMapping": true},
	} {
		if _, ok := all[key]; !ok {
			all[key] = value
		}
	}
	all["spec"] = spec
	return all, nil
}
