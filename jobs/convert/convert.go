// Package convert is the job kind that converts one image.
package convert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/jobs/layer"
	"github.com/opencontainers/go-digest"
)

// Kind names the job kind.
const Kind = "convert"

// DefaultLedgerRepo is the repository of the destination registry in which
// converted layers are found again.
const DefaultLedgerRepo = "lithify/ledger"

// Args say which image to convert and how. They hold no secrets: workers have
// credentials of their own.
type Args struct {
	Source string `json:"source"` // reference, as package convert/registry opens it
	// SourceDigest pins the source to what it named when the job was submitted.
	SourceDigest digest.Digest `json:"sourceDigest,omitempty"`

	Platforms    []string `json:"platforms,omitempty"` // os/arch[/variant]; default the worker's
	AllPlatforms bool     `json:"allPlatforms,omitempty"`
	InPlace      bool     `json:"inPlace,omitempty"`
	// BlockCIM converts the manifests for Windows that are asked for, too, by workers on
	// Windows.
	BlockCIM bool `json:"blockCIM,omitempty"`
	// BlockCIMMerged makes the CIM, too, that joins those of an image's layers.
	BlockCIMMerged bool `json:"blockCIMMerged,omitempty"`

	Output
}

// Output says where an image goes and in which form, whatever it is made from.
type Output struct {
	Target string `json:"target"` // reference, as package convert/registry creates it

	Profile string `json:"profile,omitempty"` // an erofs.Profile; default erofs
	Dialect string `json:"dialect,omitempty"` // an erofs.Dialect; default legacy
	Verity  bool   `json:"verity,omitempty"`  // dm-verity trees behind the images
	Verify  string `json:"verify,omitempty"`  // a convert.Verify; default full

	InlineTails bool `json:"inlineTails,omitempty"` // the last bytes of files in the metadata

	Replace        bool `json:"replace,omitempty"`
	BreakSignature bool `json:"breakSignature,omitempty"`
	Insecure       bool `json:"insecure,omitempty"` // plain HTTP

	LedgerRepo string       `json:"ledgerRepo,omitempty"` // none: no ledger
	Limits     layer.Limits `json:"limits,omitzero"`
}

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// String is the job in a few words.
func (a Args) String() string { return "convert " + a.Source + " to " + a.Target }

// Validate implements jobs.Args. It looks at the words alone and asks nobody.
func (a Args) Validate() error {
	if err := checkSecret("source", a.Source); err != nil {
		return err
	}
	switch {
	case a.Source == "" || a.Target == "":
		return fmt.Errorf("a source and a target are required")
	case a.AllPlatforms && len(a.Platforms) > 0:
		return fmt.Errorf("--platform and --all-platforms exclude each other")
	case a.SourceDigest != "" && a.SourceDigest.Validate() != nil:
		return fmt.Errorf("source digest %q is not valid", a.SourceDigest)
	case a.BlockCIMMerged && !a.BlockCIM:
		return fmt.Errorf("--blockcim-merged is of what --blockcim makes: give both")
	}
	for _, p := range a.Platforms {
		if _, err := platforms.Parse(p); err != nil {
			return fmt.Errorf("platform %q: %w", p, err)
		}
	}
	return a.Output.Validate()
}

// Validate is part of that of the args that hold o.
func (o Output) Validate() error {
	if err := cmp.Or(checkSecret("target", o.Target), checkSecret("ledger repository", o.LedgerRepo)); err != nil {
		return err
	}
	switch {
	case o.Target == "":
		return fmt.Errorf("a target is required")
	case strings.HasPrefix(o.Target, "docker-archive:") || strings.HasPrefix(o.Target, "oci-archive:"):
		return fmt.Errorf("target %q: archives can only be read; use oci:DIR or a registry reference", o.Target)
	}
	if err := o.Limits.Validate(); err != nil {
		return err
	}
	if err := OneOf("profile", o.Profile, "erofs", "erofs+zstd", "erofs-tar", profileIndex); err != nil {
		return err
	}
	inTar := o.Profile == "erofs-tar" || o.Profile == profileIndex
	switch {
	case o.InlineTails && inTar:
		return fmt.Errorf("--profile %s leaves files where the tar has them: it excludes --inline-tails", o.Profile)
	case o.Verity && inTar:
		return fmt.Errorf("--verity has blocks of 4096 bytes and --profile %s blocks of 512: they exclude each other", o.Profile)
	case o.Profile == profileIndex && o.Dialect != "spec":
		return fmt.Errorf("--profile %s has layers of a role that no released containerd knows, and the legacy dialect has no name for: give --dialect spec, too", profileIndex)
	}
	if err := OneOf("verify", o.Verify, "full", "stack", "none"); err != nil {
		return err
	}
	return OneOf("dialect", o.Dialect, "legacy", "spec")
}

// profileIndex is erofs.ProfileIndex.
const profileIndex = "erofs-index"

// OneOf refuses a word that is none of those allowed; "" is the default, whichever that is.
func OneOf(name, got string, allowed ...string) error {
	if got == "" || slices.Contains(allowed, got) {
		return nil
	}
	return fmt.Errorf("%s %q is none of %s", name, got, strings.Join(allowed, ", "))
}
