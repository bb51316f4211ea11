// Package keys makes the keys of those for whom tests encrypt.
package keys

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Pair is a public key, or a certificate, and its private key, each as PEM.
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

// Certificate says what is odd about one; the zero value is that of RSA which is valid now
// and says nothing of what it is for.
type Certificate struct {
	From, To time.Duration // from now on; default an hour before and after
	Signs    bool          // it is for signatures alone
	EC       bool
}

// Certified makes a pair whose public part is a certificate that it has signed itself.
func Certified(t testing.TB, c Certificate) Pair {
	t.Helper()
	var key crypto.Signer
	var err error
	if c.EC {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "lithify's tests"},
		NotBefore:    time.Now().Add(cmp.Or(c.From, -time.Hour)),
		NotAfter:     time.Now().Add(cmp.Or(c.To, time.Hour)),
	}
	if c.Signs {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pair := encode(t, key, key.Public())
	pair.Public = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return pair
}
