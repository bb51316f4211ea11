package run

import (
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	convertjob "github.com/lithify/lithify/jobs/convert"
)

// ledgerIn is the full name of the ledger in the registry that target lies in. An
// OCI layout has none.
func ledgerIn(target, repo string) string {
	ref, err := name.ParseReference(target)
	if err != nil || convertjob.IsFile(target) || repo == "" {
		return ""
	}
	return ref.Context().RegistryStr() + "/" + repo
}

// ledger is nil where no key is trusted: no record could be believed.
func (h Handler) ledger(repo string, insecure bool) *convert.Ledger {
	if len(h.Trusted) == 0 {
		return nil
	}
	// One repository for all tags: each Create would ask for a token of its own.
	all, err := registry.Create(repo+":ledger", h.ends(insecure))
	return &convert.Ledger{
		Open: func(tag string) (convert.Target, error) {
			if err != nil {
				return nil, err
			}
			return all.WithTag(tag)
		},
		Key:     h.SigningKey,
		Trusted: h.Trusted,
	}
}
