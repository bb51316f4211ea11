package run

import (
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	convertjob "github.com/lithify/lithify/jobs/convert"
)

// ledger is the ledger of the registry that target lies in. An OCI layout has
// none, and where no key is trusted no record could be believed.
func (h Handler) ledger(a convertjob.Args, target string) *convert.Ledger {
	ref, err := name.ParseReference(target)
	if err != nil || convertjob.IsFile(target) || len(h.Trusted) == 0 {
		return nil
	}
	// One repository for all tags: each Create would ask for a token of its own.
	repo, err := registry.Create(ref.Context().RegistryStr()+"/"+a.LedgerRepo+":ledger", h.ends(a))
	return &convert.Ledger{
		Open: func(tag string) (convert.Target, error) {
			if err != nil {
				return nil, err
			}
			return repo.WithTag(tag)
		},
		Key:     h.SigningKey,
		Trusted: h.Trusted,
	}
}
