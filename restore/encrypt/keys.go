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
	"strings"

	"github.com/containerd/errdefs"
	"github.com/go-jose/go-jose/v4"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The annotations of an encrypted layer's descriptor.
const (
	annotationPrefix = "org.opencontainers.image.enc."
	annotationJWE    = annotationPrefix + "keys.jwe" // base64 of JWEs, separated by commas
	annotationPublic = annotationPrefix + "pubopts"  // base64 of JSON
	annotationKeys   = annotationPrefix + "keys."
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
type Recipients []jose.Recipient

// ParseRecipients reads public keys, RSA or EC, each as PEM. A private key among them is
// refused, so that none travels by mistake. Errors are an errdefs.ErrInvalidArgument.
func ParseRecipients(keys ...string) (to Recipients, err error) {
	for _, s := range keys {
		block, rest := pem.Decode([]byte(s))
		if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("want a PEM file with one PUBLIC KEY and nothing behind it, as of `openssl pkey -in KEY -pubout`: %w", errdefs.ErrInvalidArgument)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("public key: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		switch key := key.(type) {
		case *rsa.PublicKey:
			to = append(to, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: key})
		case *ecdsa.PublicKey:
			to = append(to, jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: key})
		default:
			return nil, fmt.Errorf("a public key is neither of RSA nor of EC: %w", errdefs.ErrInvalidArgument)
		}
	}
	return to, nil
}

func (to Recipients) wrap(p private) (string, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	e, err := jose.NewMultiEncrypter(jose.A256GCM, to, nil)
	if err != nil {
		return "", fmt.Errorf("encrypt for %d recipients: %w: %w", len(to), err, errdefs.ErrInvalidArgument)
	}
	wrapped, err := e.Encrypt(raw)
	if err != nil {
		return "", fmt.Errorf("encrypt for %d recipients: %w", len(to), err)
	}
	return base64.StdEncoding.EncodeToString([]byte(wrapped.FullSerialize())), nil
}

// Keys are private keys. They print as their number.
type Keys []any

// String implements fmt.Stringer.
func (k Keys) String() string { return fmt.Sprintf("%d private keys", len(k)) }

// Format implements fmt.Formatter, for every verb.
func (k Keys) Format(s fmt.State, _ rune) { fmt.Fprint(s, k.String()) }

// ParseKeys reads private keys, RSA or EC, as PEM without a passphrase: one or more in each
// file, and nothing else behind the first. Errors are an errdefs.ErrInvalidArgument and show
// nothing of a key.
func ParseKeys(files ...[]byte) (k Keys, err error) {
	for _, rest := range files {
		for more := true; more; more = len(bytes.TrimSpace(rest)) > 0 {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				return nil, fmt.Errorf("want a PEM file with private keys and nothing else: %w", errdefs.ErrInvalidArgument)
			}
			key, err := parseKey(block)
			if err != nil {
				return nil, err
			}
			k = append(k, key)
		}
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
// errdefs.ErrPermissionDenied says that none of them is a recipient's.
func (k Keys) Unwrap(desc ocispec.Descriptor) (*Key, error) {
	if len(k) == 0 {
		return nil, fmt.Errorf("it is encrypted; give a private key of one for whom it is: %w", errdefs.ErrPermissionDenied)
	}
	if desc.Annotations[annotationJWE] == "" {
		return nil, fmt.Errorf("it is encrypted by %s, and JWE alone is known here: %w", ways(desc), errdefs.ErrNotImplemented)
	}
	for one := range strings.SplitSeq(desc.Annotations[annotationJWE], ",") {
		raw, err := base64.StdEncoding.DecodeString(one)
		if err != nil {
			return nil, fmt.Errorf("the annotation %s is no base64: %w", annotationJWE, errdefs.ErrInvalidArgument)
		}
		wrapped, err := jose.ParseEncrypted(string(raw), wrapping, content)
		if err != nil {
			return nil, fmt.Errorf("the annotation %s: %w: %w", annotationJWE, err, errdefs.ErrInvalidArgument)
		}
		for _, key := range k {
			if _, _, plain, err := wrapped.DecryptMulti(key); err == nil {
				return newKey(plain, desc)
			}
		}
	}
	return nil, fmt.Errorf("it is encrypted for others than the %d private keys given: %w", len(k), errdefs.ErrPermissionDenied)
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
