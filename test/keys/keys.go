// Package keys makes the keys of those for whom tests encrypt.
package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"
)

// Pair is a public and its private key, each as PEM.
type Pair struct {
	Public  string
	Private []byte
}

// RSA makes a pair.
func RSA(t testing.TB) Pair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return encode(t, key, &key.PublicKey)
}

// EC makes a pair, on the curve P-256.
func EC(t testing.TB) Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return encode(t, key, &key.PublicKey)
}

func encode(t testing.TB, key, public any) Pair {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return Pair{string(block("PUBLIC KEY", shown)), block("PRIVATE KEY", private)}
}
