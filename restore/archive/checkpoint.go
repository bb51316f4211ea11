package archive

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
)

// Format is a kind of archive, by the engine that writes it.
type Format string

// The formats. Their names are those that checkpointctl shows, in lower case.
const (
	Containerd Format = "containerd"
	CRIO       Format = "cri-o"
	Podman     Format = "podman"
)

// Checkpoint is what an archive says of itself, whatever its format. All of it is the
// word of whoever made the archive.
type Checkpoint struct {
	Format       Format // that it was read from
	ID           string // of the container
	Name         string
	Pod          Pod
	Base         Base
	Runtime      string // as the OCI runtime is called: runc, crun; containerd's name of it will do
	Created      time.Time
	Checkpointed time.Time
	// Labels and Annotations are those that Kubernetes gave the container.
	Labels      map[string]string
	Annotations map[string]string
	Host        Host // where it was made, as far as it is known
	// Spec is the OCI runtime spec of the container that was dumped. It is never to be
	// given to a runtime: see [Derive].
	Spec json.RawMessage
	// Ignored names what was in the archive and is not in the directory, such as
	// Podman's volumes. Of many it names the first.
	Ignored []string
}

// Pod is what a container was part of, if it was.
type Pod struct {
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	UID       string `json:"uid,omitempty"`
	SandboxID string `json:"sandbox,omitempty"`
}

// Base is the image that the container's files stand on. Its name alone is no
// reference: a tag may have moved since, and the archive may name any.
type Base struct {
	Name string `json:"name,omitempty"` // as the user asked for it, NAME:TAG
	// Digest is that of the manifest or index. Archives of CRI-O and Podman do not have
	// it, unless we wrote them.
	Digest digest.Digest `json:"digest,omitempty"`
	// ID is the digest of the image's config, by which CRI-O and Podman find it.
	ID digest.Digest `json:"id,omitempty"`
}

// The names in an archive, and in a directory that [Read] fills. There each is as it came,
// but for the log, which has one name.
const (
	ImagesDir    = "checkpoint" // CRIU's images
	ParentDir    = "pre-checkpoint"
	ChangesFile  = "rootfs-diff.tar"
	LogFile      = "container.log"
	DumpLogFile  = "dump.log"
	StatsFile    = "stats-dump"
	ShmFile      = "devshm-checkpoint.tar" // what was in Podman's and CRI-O's /dev/shm
	PagesFile    = "pages.json"            // where pages are that the archive has not: package pages
	configFile   = "config.dump"
	specFile     = "spec.dump"
	statusFile   = "status.dump"
	deletedFile  = "deleted.files"
	oursFile     = "lithify.json"
	parentLink   = ImagesDir + "/parent"
	parentTarget = "../" + ParentDir
)
