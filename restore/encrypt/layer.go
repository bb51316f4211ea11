package encrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"math/big"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	keySize = 32
	nonce   = "nonce" // the cipher's one option
)

// Key is that of one layer.
type Key struct {
	private private
	public  public
	block   cipher.Block
}

// check looks whether a key can be one.
func (k *Key) check() (err error) {
	if len(k.private.Key) != keySize || len(k.nonce()) != aes.BlockSize || len(k.public.HMAC) != sha256.Size {
		return fmt.Errorf("a key of %d bytes, a nonce of %d and a sum of %d are none of %s: %w",
			len(k.private.Key), len(k.nonce()), len(k.public.HMAC), cipherName, errdefs.ErrInvalidArgument)
	}
	k.block, err = aes.NewCipher(k.private.Key)
	return err
}

func (k *Key) nonce() []byte {
	if n, ok := k.private.Options[nonce]; ok { // where nobody else can change it
		return n
	}
	return k.public.Options[nonce]
}

// Name is another digest for a layer that only who has the key can tell: what has it was
// decrypted by this key.
func (k *Key) Name(layer digest.Digest) digest.Digest {
	name := hmac.New(sha256.New, k.private.Key)
	name.Write([]byte(layer))
	return digest.NewDigest(digest.SHA256, name)
}

// Reader decrypts a layer. What it gives is not known to be what was encrypted before
// it has given io.EOF: in its place comes an errdefs.ErrDataLoss if it is not.
func (k *Key) Reader(r io.Reader) io.Reader {
	return &reader{r: r, stream: cipher.NewCTR(k.block, k.nonce()), sum: hmac.New(sha256.New, k.private.Key), want: k.public.HMAC}
}

// Plain is the digest of the layer before it was encrypted, by the word of who did that.
func (k *Key) Plain() digest.Digest { return k.private.Digest }

// Range decrypts what r reads of a layer from its byte off on. What it gives is not known to be
// what was encrypted, ever: whoever reads it has a sum of it.
func (k *Key) Range(r io.Reader, off int64) io.Reader {
	at := new(big.Int).SetBytes(k.nonce()) // counts blocks, and begins again after the last one
	at.Add(at, big.NewInt(off/aes.BlockSize))
	counter := at.FillBytes(make([]byte, aes.BlockSize+1))[1:]
	stream := cipher.NewCTR(k.block, counter)
	skipped := make([]byte, off%aes.BlockSize)
	stream.XORKeyStream(skipped, skipped)
	return cipher.StreamReader{S: stream, R: r}
}

type reader struct {
	r      io.Reader
	stream cipher.Stream
	sum    hash.Hash
	want   []byte
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.sum.Write(p[:n])
	r.stream.XORKeyStream(p[:n], p[:n])
	if err == io.EOF && !hmac.Equal(r.sum.Sum(nil), r.want) {
		err = fmt.Errorf("the encrypted layer was changed, or is not of this key: %w", errdefs.ErrDataLoss)
	}
	return n, err
}

// PlainType is the media type that a layer had before it was encrypted, if it was.
func PlainType(mediaType string) string { return strings.TrimSuffix(mediaType, suffix) }

// Seal encrypts the layer desc, which open reads, under a new key for the recipients. It reads
// the layer once, and again whenever sealed is called: nothing is kept of it. The
// descriptor is that of what sealed gives.
func (to Recipients) Seal(desc ocispec.Descriptor, open func() (io.ReadCloser, error)) (_ ocispec.Descriptor, sealed func() (io.ReadCloser, error), err error) {
	k := &Key{
		private: private{Key: make([]byte, keySize), Digest: desc.Digest, Options: map[string][]byte{nonce: make([]byte, aes.BlockSize)}},
		public:  public{Cipher: cipherName, HMAC: make([]byte, sha256.Size), Options: map[string][]byte{}},
	}
	rand.Read(k.private.Key)
	rand.Read(k.private.Options[nonce])
	if err := k.check(); err != nil {
		return desc, nil, err
	}
	sealed = func() (io.ReadCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{cipher.StreamReader{S: cipher.NewCTR(k.block, k.nonce()), R: r}, r}, nil
	}
	if desc.Digest, err = k.sum(sealed); err != nil {
		return desc, nil, fmt.Errorf("encrypt layer: %w", err)
	}
	desc.MediaType += suffix
	desc.Annotations, err = to.annotations(k, desc.Annotations)
	return desc, sealed, err
}

// sum gives the digest of what was encrypted, and notes its authentication.
func (k *Key) sum(sealed func() (io.ReadCloser, error)) (_ digest.Digest, err error) {
	r, err := sealed()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	blob, auth := sha256.New(), hmac.New(sha256.New, k.private.Key)
	if _, err := io.Copy(io.MultiWriter(blob, auth), r); err != nil {
		return "", err
	}
	k.public.HMAC = auth.Sum(nil)
	return digest.NewDigest(digest.SHA256, blob), nil
}

func (to Recipients) annotations(k *Key, more map[string]string) (map[string]string, error) {
	wrapped, err := to.wrap(k.private)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(k.public)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	maps.Copy(all, more)
	maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasPrefix(name, annotationPrefix) })
	maps.Copy(all, wrapped)
	all[annotationPublic] = base64.StdEncoding.EncodeToString(raw)
	return all, nil
}
