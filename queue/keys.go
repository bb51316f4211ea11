package queue

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/nats-io/nkeys"

	"github.com/lithify/lithify/jobs"
)

// Keys are the public keys of a pool. A client that has them believes nothing that
// they do not vouch for: admissions are signed by the scheduler, results by a
// worker whose key may serve the job's class. They are a file that holds no secret.
type Keys struct {
	Scheduler string      `json:"scheduler"`
	Workers   []WorkerKey `json:"workers"`
}

// WorkerKey is the key of the workers that share one.
type WorkerKey struct {
	// Account is the NATS account of these workers, and the beginning of their names.
	// Without one they are in that of the streams.
	Account string       `json:"account,omitempty"`
	Key     string       `json:"key"`
	Classes []jobs.Class `json:"classes,omitempty"` // that it may serve; none: all
}

// ReadKeys reads a file of keys.
func ReadKeys(path string) (*Keys, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("pool keys: %w", err)
	}
	var k Keys
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("pool keys %s: %w", path, err)
	}
	if !nkeys.IsValidPublicUserKey(k.Scheduler) {
		return nil, fmt.Errorf("pool keys %s: the scheduler's is no public nkey of a user", path)
	}
	for _, w := range k.Workers {
		if !nkeys.IsValidPublicUserKey(w.Key) {
			return nil, fmt.Errorf("pool keys %s: that of worker %q is no public nkey of a user", path, w.Account)
		}
	}
	return &k, nil
}

// WriteFile writes what ReadKeys reads.
func (k Keys) WriteFile(path string) error {
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// worker is the entry of a key; nil if it is none of a worker of this pool.
func (k *Keys) worker(key string) *WorkerKey {
	if i := slices.IndexFunc(k.Workers, func(w WorkerKey) bool { return w.Key == key }); i >= 0 {
		return &k.Workers[i]
	}
	return nil
}

func (w *WorkerKey) serves(c jobs.Class) bool {
	return len(w.Classes) == 0 || slices.Contains(w.Classes, c)
}

// setKeys reads what the client signs with, and whose signatures it believes.
func (c *Client) setKeys(cfg *Config) (err error) {
	if c.key, c.public, err = cfg.signingKey(); err != nil {
		return fmt.Errorf("nkey file: %w", err)
	}
	if cfg.KeysFile != "" {
		c.keys, err = ReadKeys(cfg.KeysFile)
	}
	return err
}

// signingKey reads the key that a client logs in with, to sign with it, and its public
// half: nil if it has none. An nkey is one of Ed25519; package nkeys would derive it
// anew for each signature, which takes as long as the signature.
func (c *Config) signingKey() (ed25519.PrivateKey, string, error) {
	path := c.NkeyFile
	if path == "" {
		path = c.CredsFile
	}
	if path == "" {
		return nil, "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	key, public, err := decodeKey(b)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return key, public, nil
}

func decodeKey(b []byte) (ed25519.PrivateKey, string, error) {
	pair, err := nkeys.ParseDecoratedNKey(b)
	if err != nil {
		return nil, "", err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, "", err
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, "", err
	}
	_, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, "", err
	}
	return ed25519.NewKeyFromSeed(raw), public, nil
}
