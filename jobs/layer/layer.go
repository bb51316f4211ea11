// Package layer is the job kind that converts one layer into a ledger. Jobs of the
// kind convert ask for them and wait: a layer that many images share is converted
// once for each destination registry.
package layer

import (
	"encoding/json"
	"fmt"

	"github.com/lithify/lithify/jobs"
	"github.com/opencontainers/go-digest"
)

// Kind names the job kind.
const Kind = "layer"

// BlockCIM is the class of the jobs whose layers become block CIMs. A worker serves it that can
// write them.
var BlockCIM = jobs.Class{Kind: Kind, OS: "windows", Arch: jobs.Any, Feature: "blockcim"}

// Args say which blob to convert, where it is, and what becomes of it.
type Args struct {
	// Job is all that the result's bytes depend on: a convert.LayerJob.
	Job json.RawMessage `json:"job"`
	// Ledger is the repository that the layer is entered in, registry included.
	Ledger string `json:"ledger"`

	// The rest is no part of the job's identity: where the same blob can be had, and
	// how much may be spent on it.
	Source   string        `json:"source"` // a repository that holds the blob, registry included
	Blob     digest.Digest `json:"blob"`
	Size     int64         `json:"size"`               // of the blob, in bytes
	Insecure bool          `json:"insecure,omitempty"` // plain HTTP
	Limits   Limits        `json:"limits,omitzero"`
	Verify   string        `json:"verify,omitempty"` // a convert.Verify
}

// Limits bound one layer, in bytes where nothing else is said. Zero is the default
// of erofs.DefaultLimits.
type Limits struct {
	Bytes     int64 `json:"bytes,omitempty"`     // uncompressed
	FileBytes int64 `json:"fileBytes,omitempty"` // of one file
	Entries   int64 `json:"entries,omitempty"`   // number
	PAXBytes  int64 `json:"paxBytes,omitempty"`  // of one extended header
	MetaBytes int64 `json:"metaBytes,omitempty"` // of names and attributes
}

// Validate refuses limits below zero.
func (l Limits) Validate() error {
	if min(l.Bytes, l.FileBytes, l.Entries, l.PAXBytes, l.MetaBytes) < 0 {
		return fmt.Errorf("a limit is below zero: %+v", l)
	}
	return nil
}

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// Identity implements jobs.Pure.
func (a Args) Identity() any { return []any{a.Ledger, a.Job} }

// String is the job in a few words.
func (a Args) String() string { return fmt.Sprintf("convert layer %s of %s", a.Blob, a.Source) }

// Validate implements jobs.Args.
func (a Args) Validate() error {
	var job struct {
		Source digest.Digest `json:"source"`
	}
	if err := json.Unmarshal(a.Job, &job); err != nil {
		return fmt.Errorf("layer job: %w", err)
	}
	switch {
	case a.Ledger == "" || a.Source == "":
		return fmt.Errorf("a source and a ledger are required")
	case a.Blob.Validate() != nil || a.Blob != job.Source:
		return fmt.Errorf("blob %q is not the layer job's source %q", a.Blob, job.Source)
	case a.Size < 0:
		return fmt.Errorf("size %d is below zero", a.Size)
	}
	return a.Limits.Validate()
}
