package encrypt_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/restore/encrypt"
	"github.com/lithify/lithify/test/keys"
)

// plain is a layer of more than one buffer.
var plain = bytes.Repeat([]byte("memory of a process, with a password in it; "), 10_000)

func seal(t testing.TB, to ...keys.Pair) (ocispec.Descriptor, func() (io.ReadCloser, error)) {
	t.Helper()
	var public []string
	for _, p := range to {
		public = append(public, p.Public)
	}
	recipients, err := encrypt.ParseRecipients(public...)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromBytes(plain), Size: int64(len(plain)),
		Annotations: map[string]string{annotationJWE: "of what it was made of", "more": "stays"}}
	desc, sealed, err := recipients.Seal(desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(plain)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return desc, sealed
}

func read(t testing.TB, open func() (io.ReadCloser, error)) []byte {
	t.Helper()
	r, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decrypt reads a layer in small pieces.
func decrypt(t testing.TB, desc ocispec.Descriptor, sealed []byte, private []byte) ([]byte, error) {
	t.Helper()
	keys, err := encrypt.ParseKeys(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.Unwrap(desc)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(key.Reader(iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(sealed)))))
}

func TestSeal(t *testing.T) {
	rsaKey, ecKey, other := keys.RSA(t), keys.EC(t), keys.RSA(t)
	desc, open := seal(t, rsaKey, ecKey)
	sealed := read(t, open)
	if desc.Digest != digest.FromBytes(sealed) || desc.Size != int64(len(sealed)) || desc.MediaType != "application/vnd.oci.image.layer.v1.tar+zstd+encrypted" {
		t.Errorf("got %+v, want the descriptor of %d bytes", desc, len(sealed))
	}
	if desc.Annotations["more"] != "stays" {
		t.Errorf("annotations: %v", desc.Annotations)
	}
	if !bytes.Equal(sealed, read(t, open)) {
		t.Error("the second time it is encrypted to other bytes")
	}
	if bytes.Contains(sealed, []byte("password")) || strings.Contains(fmt.Sprint(desc), "password") {
		t.Error("it is not encrypted")
	}
	for name, p := range map[string]keys.Pair{"RSA": rsaKey, "EC": ecKey} {
		if got, err := decrypt(t, desc, sealed, p.Private); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := decrypt(t, desc, sealed, other.Private); !errdefs.IsPermissionDenied(err) {
		t.Errorf("another's key: %v", err)
	}
	again, openAgain := seal(t, rsaKey)
	if again.Digest == desc.Digest || bytes.Equal(read(t, openAgain), sealed) {
		t.Error("two layers have one key")
	}
	if _, err := decrypt(t, again, sealed, rsaKey.Private); !errors.Is(err, errdefs.ErrDataLoss) {
		t.Errorf("the key of another layer: %v", err)
	}
}

func TestRange(t *testing.T) {
	p := keys.EC(t)
	desc, open := seal(t, p)
	sealed := read(t, open)
	private, err := encrypt.ParseKeys(p.Private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := private.Unwrap(desc)
	if err != nil {
		t.Fatal(err)
	}
	if key.Plain() != digest.FromBytes(plain) {
		t.Errorf("it was %s, want %s", key.Plain(), digest.FromBytes(plain))
	}
	for _, off := range []int{0, 1, 15, 16, 17, 4096, 100_001, len(plain) - 1, len(plain)} {
		got, err := io.ReadAll(iotest.OneByteReader(key.Range(bytes.NewReader(sealed[off:]), int64(off))))
		if err != nil || !bytes.Equal(got, plain[off:]) {
			t.Errorf("from %d on: %d bytes, %v, want what was encrypted", off, len(got), err)
		}
	}
}

func TestDamage(t *testing.T) {
	p := keys.EC(t)
	desc, open := seal(t, p)
	sealed := read(t, open)
	flipped := func(i int) []byte { b := bytes.Clone(sealed); b[i] ^= 1; return b }
	for name, b := range map[string][]byte{
		"first byte": flipped(0), "last byte": flipped(len(sealed) - 1), "cut": sealed[:len(sealed)-1], "longer": append(bytes.Clone(sealed), 0), "empty": nil,
	} {
		if _, err := decrypt(t, desc, b, p.Private); !errors.Is(err, errdefs.ErrDataLoss) {
			t.Errorf("%s: got %v, want a loss of data", name, err)
		}
	}
	for name, tc := range map[string]struct {
		change map[string]string
		want   error
	}{
		"no keys":        {map[string]string{annotationJWE: "", "org.opencontainers.image.enc.keys.pgp": "eHg="}, errdefs.ErrNotImplemented},
		"no base64":      {map[string]string{annotationJWE: "%"}, errdefs.ErrInvalidArgument},
		"no JWE":         {map[string]string{annotationJWE: "eHg="}, errdefs.ErrInvalidArgument},
		"no options":     {map[string]string{"org.opencontainers.image.enc.pubopts": ""}, errdefs.ErrInvalidArgument},
		"another cipher": {map[string]string{"org.opencontainers.image.enc.pubopts": encoded(t, map[string]any{"cipher": "ROT13", "hmac": make([]byte, 32)})}, errdefs.ErrInvalidArgument},
		"no sum":         {map[string]string{"org.opencontainers.image.enc.pubopts": encoded(t, map[string]any{"cipher": "AES_256_CTR_HMAC_SHA256"})}, errdefs.ErrInvalidArgument},
		"another sum":    {map[string]string{"org.opencontainers.image.enc.pubopts": encoded(t, map[string]any{"cipher": "AES_256_CTR_HMAC_SHA256", "hmac": make([]byte, 32)})}, errdefs.ErrDataLoss},
	} {
		d := desc
		d.Annotations = map[string]string{}
		for k, v := range desc.Annotations {
			d.Annotations[k] = v
		}
		for k, v := range tc.change {
			d.Annotations[k] = v
		}
		if _, err := decrypt(t, d, sealed, p.Private); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

// Who has changed their key has the new one and the old one in a file.
func TestKeysOfOneFile(t *testing.T) {
	was, is := keys.RSA(t), keys.EC(t)
	both := slices.Concat(is.Private, []byte("\n"), was.Private)
	for name, p := range map[string]keys.Pair{"the old one": was, "the new one": is} {
		desc, open := seal(t, p)
		if got, err := decrypt(t, desc, read(t, open), both); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// What everybody can change must not decide how a layer is decrypted.
func TestNonceIsWrapped(t *testing.T) {
	p := keys.EC(t)
	desc, open := seal(t, p)
	raw, err := base64.StdEncoding.DecodeString(desc.Annotations["org.opencontainers.image.enc.pubopts"])
	if err != nil {
		t.Fatal(err)
	}
	var options map[string]any
	if err := json.Unmarshal(raw, &options); err != nil {
		t.Fatal(err)
	}
	options["cipheroptions"] = map[string]any{"nonce": make([]byte, 16)}
	desc.Annotations["org.opencontainers.image.enc.pubopts"] = encoded(t, options)
	if got, err := decrypt(t, desc, read(t, open), p.Private); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func encoded(t *testing.T, v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func TestKeys(t *testing.T) {
	p := keys.EC(t)
	for name, s := range map[string]string{"nothing": "", "a private key": string(p.Private), "two": p.Public + keys.EC(t).Public, "a private key behind it": p.Public + string(p.Private), "half a private key before it": string(p.Private[:100]) + "\n" + p.Public, "a certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := encrypt.ParseRecipients(s); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s as a public key: %v", name, err)
		}
	}
	for name, s := range map[string]string{"nothing": "", "a public key": p.Public, "with a passphrase": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
		"a public key behind it": string(p.Private) + p.Public, "half a key behind it": string(p.Private) + string(p.Private[:100]),
		"half a key before it": string(p.Private[:100]) + "\n" + string(p.Private), "a key without its end before it": strings.Replace(string(p.Private), "-----END", "----END", 1) + string(p.Private),
		"a key without its beginning before it": strings.Replace(string(p.Private), "-----BEGIN", "----BEGIN", 1) + string(p.Private), "a damaged key between two": string(p.Private) + strings.Replace(string(p.Private), "\n", "\n!", 1) + string(p.Private)} {
		if _, err := encrypt.ParseKeys([]byte(s)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s as a private key: %v", name, err)
		}
	}
	keys, err := encrypt.ParseKeys(p.Private)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if got := fmt.Sprintf(verb, keys); got != "1 private keys" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if _, err := (encrypt.Keys{}).Unwrap(ocispec.Descriptor{}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("no key: %v", err)
	}
}

func ExampleRecipients_Seal() {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	public, _ := x509.MarshalPKIXPublicKey(&key.PublicKey)
	private, _ := x509.MarshalPKCS8PrivateKey(key)

	to, err := encrypt.ParseRecipients(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
	if err != nil {
		panic(err)
	}
	layer := []byte("a layer")
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromBytes(layer), Size: int64(len(layer))}
	desc, sealed, err := to.Seal(desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil })
	if err != nil {
		panic(err)
	}
	fmt.Println(desc.MediaType)

	keys, err := encrypt.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	if err != nil {
		panic(err)
	}
	k, err := keys.Unwrap(desc)
	if err != nil {
		panic(err)
	}
	r, err := sealed()
	if err != nil {
		panic(err)
	}
	defer r.Close()
	plain, err := io.ReadAll(k.Reader(r))
	fmt.Println(string(plain), err)
	// Output:
	// application/vnd.oci.image.layer.v1.tar+zstd+encrypted
	// a layer <nil>
}
