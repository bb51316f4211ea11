package run

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// LoadKey reads the Ed25519 key that signs ledger records and provenance: PKCS #8 in PEM, as
// `openssl genpkey -algorithm ed25519` writes it.
func LoadKey(path string) (ed25519.PrivateKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ledger key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("ledger key %s: no PEM block; make one with: openssl genpkey -algorithm ed25519", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("ledger key %s: %w", path, err)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("ledger key %s: a %T, not an Ed25519 key", path, key)
	}
	return ed, nil
}

// LoadPublicKey reads the other half of such a key, as `openssl pkey -pubout` writes it.
func LoadPublicKey(path string) (ed25519.PublicKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("public key %s: no PEM block; make one with: openssl pkey -in KEY -pubout", path)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("public key %s: %w", path, err)
	}
	ed, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("public key %s: a %T, not an Ed25519 key", path, key)
	}
	return ed, nil
}

// EnsureKey is LoadKey for a pool on one machine: it makes the key, readable by
// its owner alone, if there is none yet. Of several that make it at the same time
// one wins, and all get its key.
func EnsureKey(path string) (ed25519.PrivateKey, error) {
	key, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := makeKey(path); err != nil {
		return nil, fmt.Errorf("make ledger key: %w", err)
	}
	return LoadKey(path)
}

// makeKey leaves a whole key at path, of its own or of who was first. It is
// written aside and linked: a rename would replace a key that another process
// signs with already. The directory is not synced: with a key that a crash takes
// away only what the ledger remembers is lost.
func makeKey(path string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	aside, err := os.CreateTemp(filepath.Dir(path), ".ledger-*") // mode 0600
	if err != nil {
		return err
	}
	err = pem.Encode(aside, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, aside.Sync(), aside.Close()); err == nil {
		err = os.Link(aside.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(aside.Name()))
}

// SignWith makes key sign the handler's ledger records and be believed.
func (h *Handler) SignWith(key ed25519.PrivateKey) {
	h.SigningKey = key
	h.Trusted = append(h.Trusted, key.Public().(ed25519.PublicKey))
}
