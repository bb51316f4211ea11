package queue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
)

// AddFlags defines the flags that say where the pool is and how to get in. They
// have the same names in every program.
func (c *Config) AddFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.URL, "nats", "", "NATS URL of the pool (default: the context file that lithify serve writes)")
	fs.StringVar(&c.NkeyFile, "nkey", "", "file with the nkey seed to log in with, and to sign with")
	fs.StringVar(&c.CredsFile, "creds", "", "file with NATS credentials to log in with")
	fs.StringVar(&c.TLSCA, "tls-ca", "", "PEM file with the certificates that the server's is checked against (default: the system's)")
	fs.StringVar(&c.TLSCert, "tls-cert", "", "PEM file with this client's certificate, where the server wants one")
	fs.StringVar(&c.TLSKey, "tls-key", "", "PEM file with the key of --tls-cert")
	fs.StringVar(&c.KeysFile, "pool-keys", "", "file with the public keys of the pool: what its scheduler and workers did not sign is not believed")
}

// tlsOptions has the files read at each connection, so that they may be renewed, and
// once now, so that what is wrong with them is said at once.
func (c *Config) tlsOptions() (opts []nats.Option, _ error) {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, fmt.Errorf("a TLS certificate and its key go together: %w", errdefs.ErrInvalidArgument)
	}
	if c.TLSCA != "" {
		b, err := os.ReadFile(c.TLSCA)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(b) {
			err = errors.New("no certificate in it")
		}
		if err != nil {
			return nil, fmt.Errorf("TLS CA file %s: %w: %w", c.TLSCA, err, errdefs.ErrInvalidArgument)
		}
		opts = append(opts, nats.RootCAs(c.TLSCA))
	}
	if c.TLSCert != "" {
		if _, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey); err != nil {
			return nil, fmt.Errorf("TLS certificate %s: %w: %w", c.TLSCert, err, errdefs.ErrInvalidArgument)
		}
		opts = append(opts, nats.ClientCert(c.TLSCert, c.TLSKey))
	}
	return opts, nil
}
