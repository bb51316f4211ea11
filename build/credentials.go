package build

import (
	"context"

	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
)

// credentials answer the daemon's questions for those of registries. It gets tokens, and
// for what knows no tokens the password.
func credentials(keychain authn.Keychain) session.Attachable {
	if keychain == nil {
		keychain = authn.DefaultKeychain
	}
	return authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: func(ctx context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
			if host == authprovider.DockerHubRegistryHost {
				host = name.DefaultRegistry
			}
			registry, err := name.NewRegistry(host)
			if err != nil {
				return types.AuthConfig{}, err
			}
			auth, err := authn.Resolve(ctx, keychain, registry)
			if err != nil {
				return types.AuthConfig{}, err
			}
			c, err := authn.Authorization(ctx, auth)
			if err != nil {
				return types.AuthConfig{}, err
			}
			return types.AuthConfig{Username: c.Username, Password: c.Password, Auth: c.Auth, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}, nil
		},
	})
}
