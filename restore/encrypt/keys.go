package encrypt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/go-jose/go-jose/v4"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The annotations of an encrypted layer's descriptor.
const (
	annotationPrefix = "org.opencontainers.image.enc."
	annotationKeys   = annotationPrefix + "keys."   // and how they are wrapped: base64, separated by commas
	annotationJWE    = annotationKeys + "jwe"       // of JWEs
	annotationPKCS7  = annotationKeys + "pkcs7"     // of EnvelopedData in DER
	annotationPublic = annotationPrefix + "pubopts" // base64 of JSON
)

// suffix is what ocicrypt adds to the media type of a layer.
const suffix = "+encrypted"

// cipherName is ocicrypt's one cipher.
const cipherName = "AES_256_CTR_HMAC_SHA256"

// private is what is wrapped for each recipient, and public what is in the open.
type (
	private struct {
		Key     []byte            `json:"symkey"`
		Digest  digest.Digest     `json:"digest"` // of the plain layer
		Options map[string][]byte `json:"cipheroptions"`
	}
	public struct {
		Cipher  string            `json:"cipher"`
		HMAC    []byte            `json:"hmac"`
		Options map[string][]byte `json:"cipheroptions"`
	}
)

// Recipients are who can read a layer. None is nobody: nothing is encrypted.
type Recipients []Recipient

// Recipient is one of them: by a key of JWE or by a certificate.
type Recipient struct {
	jwe         jose.Recipient
	certificate *x509.Certificate
}

// ParseRecipients reads public keys, RSA or EC, and certificates with a key of RSA, each as
// PEM. A private key among them is refused, so that none travels by mistake, and a
// certificate that has expired or is not for this. Errors are an errdefs.ErrInvalidArgument.
func ParseRecipients(keys ...string) (to Recipients, err error) {
	for _, s := range keys {
		one, err := parseRecipient(s)
		if err != nil {
			return nil, err
		}
		to = append(to, one)
	}
	return to, nil
}

func parseRecipient(s string) (Recipient, error) {
	if strings.Contains(s, "-----BEGIN PGP ") {
		return Recipient{}, fmt.Errorf("it is a key of OpenPGP, and to those nothing is encrypted here; give a PUBLIC KEY or a CERTIFICATE: %w", errdefs.ErrInvalidArgument)
	}
	block, rest := next([]byte(s))
	if block == nil || block.Type != "PUBLIC KEY" && block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return Recipient{}, fmt.Errorf("want a PEM file with one PUBLIC KEY, as of `openssl pkey -in KEY -pubout`, or one CERTIFICATE, and nothing behind it: %w", errdefs.ErrInvalidArgument)
	}
	if block.Type == "CERTIFICATE" {
		c, err := parseCertificate(block.Bytes, time.Now())
		return Recipient{certificate: c}, err
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Recipient{}, fmt.Errorf("public key: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		return Recipient{jwe: jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: key}}, nil
	case *ecdsa.PublicKey:
		return Recipient{jwe: jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: key}}, nil
	}
	return Recipient{}, fmt.Errorf("a public key is neither of RSA nor of EC: %w", errdefs.ErrInvalidArgument)
}

// next takes the first block off a PEM file; nil where there is none, or another before it that is
// damaged: pem.Decode goes on to the next one that is whole. Other text before it is let pass, as
// openssl pkcs12 writes some.
func next(file []byte) (block *pem.Block, rest []byte) {
	block, rest = pem.Decode(file)
	taken := file[:len(file)-len(rest)]
	if bytes.Count(taken, []byte("-----BEGIN ")) != 1 || bytes.Count(taken, []byte("-----END ")) != 1 {
		return nil, file
	}
	return block, rest
}

// wrap gives the annotations by which recipients find the key.
func (to Recipients) wrap(p private) (map[string]string, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	var jwe []jose.Recipient
	var certificates []*x509.Certificate
	for _, r := range to {
		if r.certificate != nil {
			certificates = append(certificates, r.certificate)
		} else {
			jwe = append(jwe, r.jwe)
		}
	}
	wrapped := map[string]string{}
	if len(jwe) > 0 {
		e, err := encryptJWE(raw, jwe)
		if err != nil {
			return nil, fmt.Errorf("encrypt for %d recipients: %w", len(jwe), err)
		}
		wrapped[annotationJWE] = base64.StdEncoding.EncodeToString(e)
	}
	if len(certificates) > 0 {
		e, err := envelop(raw, certificates)
		if err != nil {
			return nil, err
		}
		wrapped[annotationPKCS7] = base64.StdEncoding.EncodeToString(e)
	}
	return wrapped, nil
}

func encryptJWE(raw []byte, to []jose.Recipient) ([]byte, error) {
	e, err := jose.NewMultiEncrypter(jose.A256GCM, to, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	wrapped, err := e.Encrypt(raw)
	if err != nil {
		return nil, err
	}
	return []byte(wrapped.FullSerialize()), nil
}

// Keys are private keys. They print as their number.
type Keys []any

// String implements fmt.Stringer.
func (k Keys) String() string { return fmt.Sprintf("%d private keys", len(k)) }

// Format implements fmt.Formatter, for every verb.
func (k Keys) Format(s fmt.State, _ rune) { fmt.Fprint(s, k.String()) }

// ParseKeys reads private keys, RSA or EC, as PEM without a passphrase: one or more in each
// file, and their certificates, which are not needed and passed over. Errors are an
// errdefs.ErrInvalidArgument and show nothing of a key.
func ParseKeys(files ...[]byte) (k Keys, err error) {
	for _, raw := range files {
		keys, err := parseFile(raw)
		if err != nil {
			return nil, err
		}
		k = append(k, keys...)
	}
	return k, nil
}

func parseFile(rest []byte) (k Keys, err error) {
	for len(k) == 0 || len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = next(rest); block == nil {
			return nil, fmt.Errorf("want a PEM file with private keys and nothing else, but their certificates, and none of them damaged: %w", errdefs.ErrInvalidArgument)
		}
		if block.Type == "CERTIFICATE" {
			continue
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		k = append(k, key)
	}
	return k, nil
}

func parseKey(block *pem.Block) (key any, err error) {
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("the PEM file has a %s; want a PRIVATE KEY without a passphrase: %w", block.Type, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return nil, fmt.Errorf("the private key cannot be read: %w", errdefs.ErrInvalidArgument)
	}
	switch key.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("a private key is neither of RSA nor of EC: %w", errdefs.ErrInvalidArgument)
}

// The algorithms that ocicrypt takes.
var (
	wrapping = []jose.KeyAlgorithm{jose.RSA_OAEP, jose.RSA_OAEP_256, jose.ECDH_ES_A128KW, jose.ECDH_ES_A192KW, jose.ECDH_ES_A256KW}
	content  = []jose.ContentEncryption{jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512, jose.A128GCM, jose.A192GCM, jose.A256GCM}
)

// Is says that a layer is encrypted.
func Is(desc ocispec.Descriptor) bool { return strings.HasSuffix(desc.MediaType, suffix) }

// Unwrap finds the key of an encrypted layer by one of the private keys. An
// errdefs.ErrPermissionDenied says that none of them is a recipient's, an
// errdefs.ErrNotImplemented that it is wrapped in no way that is known here.
func (k Keys) Unwrap(desc ocispec.Descriptor) (*Key, error) {
	if len(k) == 0 {
		return nil, fmt.Errorf("it is encrypted; give a private key of one for whom it is: %w", errdefs.ErrPermissionDenied)
	}
	known := false
	for _, way := range []struct {
		annotation string
		open       func([]byte) ([]byte, error)
	}{{annotationJWE, k.openJWE}, {annotationPKCS7, k.openPKCS7}} {
		wrapped := desc.Annotations[way.annotation]
		if wrapped == "" {
			continue
		}
		known = true
		plain, err := openOne(wrapped, way.open)
		if err != nil {
			return nil, fmt.Errorf("the annotation %s: %w: %w", way.annotation, err, errdefs.ErrInvalidArgument)
		}
		if plain != nil {
			return newKey(plain, desc)
		}
	}
	if !known {
		return nil, fmt.Errorf("it is encrypted by %s, and jwe and pkcs7 alone are known here: %w", ways(desc), errdefs.ErrNotImplemented)
	}
	return nil, fmt.Errorf("it is encrypted for others than the %d private keys given: %w", len(k), errdefs.ErrPermissionDenied)
}

// openOne opens one of what an annotation has, or none.
func openOne(wrapped string, open func([]byte) ([]byte, error)) ([]byte, error) {
	for one := range strings.SplitSeq(wrapped, ",") {
		raw, err := base64.StdEncoding.DecodeString(one)
		if err != nil {
			return nil, errors.New("it is no base64")
		}
		if plain, err := open(raw); plain != nil || err != nil {
			return plain, err
		}
	}
	return nil, nil
}

// openJWE gives nothing if it is for none of the keys.
func (k Keys) openJWE(raw []byte) ([]byte, error) {
	wrapped, err := jose.ParseEncrypted(string(raw), wrapping, content)
	if err != nil {
		return nil, err
	}
	for _, key := range k {
		if _, _, plain, err := wrapped.DecryptMulti(key); err == nil {
			return plain, nil
		}
	}
	return nil, nil
}

// openPKCS7 gives nothing if it is for none of the keys.
func (k Keys) openPKCS7(raw []byte) ([]byte, error) {
	e, err := parseEnvelope(raw)
	if err != nil {
		return nil, err
	}
	for _, key := range k {
		if key, ok := key.(*rsa.PrivateKey); ok {
			if plain, ok := e.open(key); ok {
				return plain, nil
			}
		}
	}
	return nil, nil
}

// ways are the ways in which a layer's key is wrapped.
func ways(desc ocispec.Descriptor) string {
	var all []string
	for name := range desc.Annotations {
		if way, ok := strings.CutPrefix(name, annotationKeys); ok {
			all = append(all, way)
		}
	}
	if len(all) == 0 {
		return "an unknown way"
	}
	slices.Sort(all)
	return strings.Join(all, " and ")
}

func newKey(plain []byte, desc ocispec.Descriptor) (*Key, error) {
	broken := func(err error) error {
		return fmt.Errorf("what is said of its encryption: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	k := &Key{}
	if err := json.Unmarshal(plain, &k.private); err != nil {
		return nil, broken(errors.New("the wrapped key is no JSON"))
	}
	raw, err := base64.StdEncoding.DecodeString(desc.Annotations[annotationPublic])
	if err == nil {
		err = json.Unmarshal(raw, &k.public)
	}
	if err != nil {
		return nil, broken(err)
	}
	if k.public.Cipher != cipherName {
		return nil, broken(fmt.Errorf("the cipher %q is not %s", k.public.Cipher, cipherName))
	}
	return k, k.check()
}
