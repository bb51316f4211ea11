package run

import (
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	convertjob "github.com/lithify/lithify/jobs/convert"
)

// ledger is the ledger of the registry that target lies in; an OCI layout has
// none.
func (h Handler) ledger(a convertjob.Args, target string) *convert.Ledger {
	ref, err := name.ParseReference(target)
	if err != nil || isFile(target) {
		return nil
	}
	repo := ref.Context().RegistryStr() + "/" + a.LedgerRepo
	return &convert.Ledger{
		Open: func(tag string) (convert.Target, error) {
			return registry.Create(repo+":"+tag, h.ends(a))
		},
		Key:     h.SigningKey,
		Trusted: h.Trusted,
	}
}

// Pin adds a digest to a reference, keeping its tag for people to read.
func Pin(ref, digest string) string {
	if strings.Contains(ref, "@") || strings.HasPrefix(ref, "docker-archive:") {
		return ref
	}
	return ref + "@" + digest
}

// isFile tells references to files from those to registries.
func isFile(ref string) bool {
	scheme, _, _ := strings.Cut(ref, ":")
	return scheme == "oci" || scheme == "oci-archive" || scheme == "docker-archive"
}
