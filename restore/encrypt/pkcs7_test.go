package encrypt_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/restore/encrypt"
	"github.com/lithify/lithify/test/keys"
)

const (
	annotationJWE   = "org.opencontainers.image.enc.keys.jwe"
	annotationPKCS7 = "org.opencontainers.image.enc.keys.pkcs7"
)

func TestCertificates(t *testing.T) {
	one, two, ec, other := keys.Certified(t, keys.Certificate{}), keys.Certified(t, keys.Certificate{}), keys.EC(t), keys.RSA(t)
	desc, open := seal(t, one, two, ec)
	sealed := read(t, open)
	for name, p := range map[string]keys.Pair{"a certificate": one, "another one": two, "a public key beside": ec} {
		if got, err := decrypt(t, desc, sealed, p.Private); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := decrypt(t, desc, sealed, other.Private); !errdefs.IsPermissionDenied(err) {
		t.Errorf("another's key: %v", err)
	}

	// skopeo wants the certificate with the key, and files have both.
	both := append([]byte(one.Public), one.Private...)
	if got, err := decrypt(t, desc, sealed, both); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("the key behind its certificate: %d bytes, %v", len(got), err)
	}
	if _, err := encrypt.ParseKeys([]byte(one.Public)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a certificate alone as a private key: %v", err)
	}

	alone, open := seal(t, one)
	if _, ok := alone.Annotations[annotationJWE]; ok {
		t.Error("who could read what the layer was made of is still named")
	}
	if got, err := decrypt(t, alone, read(t, open), one.Private); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("to a certificate alone: %d bytes, %v", len(got), err)
	}
}

func TestCertificateRefused(t *testing.T) {
	hour := time.Hour
	for name, tc := range map[string]struct {
		certificate keys.Certificate
		want        string
	}{
		"expired":             {keys.Certificate{From: -2 * hour, To: -hour}, "has expired at"},
		"not yet":             {keys.Certificate{From: hour, To: 2 * hour}, "is not valid before"},
		"only for signatures": {keys.Certificate{Signs: true}, "lacks keyEncipherment"},
		"EC":                  {keys.Certificate{EC: true}, "has a key of ECDSA"},
	} {
		t.Run(name, func(t *testing.T) {
			p := keys.Certified(t, tc.certificate)
			if _, err := encrypt.ParseRecipients(p.Public); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want that it %s", err, tc.want)
			}
		})
	}
	pgp := "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF0=\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"
	if _, err := encrypt.ParseRecipients(pgp); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "OpenPGP") {
		t.Errorf("a key of OpenPGP: %v", err)
	}
}

// Whoever can write to the registry writes annotations. github.com/smallstep/pkcs7, which
// ocicrypt has, panics on some and reads others for ever so long.
func TestHostileEnvelope(t *testing.T) {
	p := keys.Certified(t, keys.Certificate{})
	desc, open := seal(t, p)
	sealed := read(t, open)
	good, err := base64.StdEncoding.DecodeString(desc.Annotations[annotationPKCS7])
	if err != nil {
		t.Fatal(err)
	}
	with := func(der []byte) error {
		desc.Annotations[annotationPKCS7] = base64.StdEncoding.EncodeToString(der)
		got, err := decrypt(t, desc, sealed, p.Private)
		if err == nil && !bytes.Equal(got, plain) {
			t.Fatal("it was decrypted to something else")
		}
		return err
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		err := with(bad)
		if err != nil && !errdefs.IsInvalidArgument(err) && !errdefs.IsPermissionDenied(err) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if i > 0 && i%16 == 0 {
			if err := with(good[:i]); !errdefs.IsInvalidArgument(err) {
				t.Errorf("cut to %d bytes: %v", i, err)
			}
		}
	}
	last := bytes.Clone(good)
	last[len(last)-1] ^= 1
	short := bytes.Clone(good) // a nonce of 10 bytes, and something behind it: AES-GCM panics
	at := bytes.Index(short, []byte{0x84, 12})
	copy(short[at:], slices.Concat([]byte{0x84, 10}, good[at+2:at+12], []byte{2, 1, 16, 5, 0}))
	for name, tc := range map[string]struct {
		der  []byte
		want error
	}{
		"content changed": {last, errdefs.ErrPermissionDenied},
		"short nonce":     {short, errdefs.ErrInvalidArgument},
		"nested":          {bytes.Repeat([]byte{0x30, 0x80}, 1<<20), errdefs.ErrInvalidArgument},
		"more behind":     {append(bytes.Clone(good), 0), errdefs.ErrInvalidArgument},
		"DES":             {replaced(t, good, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 7}), errdefs.ErrInvalidArgument},
	} {
		if err := with(tc.der); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

// replaced has another algorithm in the place of AES-256-GCM, in as many bytes.
func replaced(t *testing.T, der []byte, oid asn1.ObjectIdentifier) []byte {
	t.Helper()
	was, err := asn1.Marshal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46})
	if err != nil {
		t.Fatal(err)
	}
	is, err := asn1.Marshal(append(oid, 1, 1, 1, 1))
	if err != nil || len(is) != len(was) || bytes.Count(der, was) != 1 {
		t.Fatalf("%v: %x in the place of %x", err, is, was)
	}
	return bytes.Replace(der, was, is, 1)
}
