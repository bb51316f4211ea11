package encrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/containerd/errdefs"
)

// What RFC 5652 calls these. Layers of ocicrypt have no others, though the RFCs would want
// AuthEnvelopedData for what AES-GCM encrypts, and PKCS #1 v1.5 is what all its versions read.
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidAES128GCM     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 6}
	oidAES256GCM     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46}
)

// The structures of RFC 5652, sections 3 and 6.
type (
	contentInfo struct {
		ContentType asn1.ObjectIdentifier
		Content     asn1.RawValue `asn1:"explicit,tag:0"`
	}
	envelopedData struct {
		Version    int
		Recipients []envelopeRecipient `asn1:"set"`
		Encrypted  encryptedContent
	}
	envelopeRecipient struct {
		Version   int
		Issuer    issuerAndSerial
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	issuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	encryptedContent struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Content   asn1.RawValue `asn1:"tag:0"`
	}
)

// gcmParameters are those of RFC 5084, but as ocicrypt has them: with another tag for the
// nonce, and inside of a sequence that says it is not made of others.
type gcmParameters struct {
	Nonce []byte `asn1:"tag:4"`
	Sum   int    // size in bytes
}

// parseCertificate reads a certificate to whose key one can encrypt now. Who issued it is
// not asked: whoever names it knows whose it is.
func parseCertificate(der []byte, now time.Time) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := usable(c, now); err != nil {
		return nil, fmt.Errorf("the certificate of %q %w: %w", c.Subject, err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

func usable(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("has expired at %s; renew it", c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageKeyEncipherment == 0:
		return errors.New("is not for encrypting keys: its key usage lacks keyEncipherment")
	}
	if _, ok := c.PublicKey.(*rsa.PublicKey); !ok {
		return fmt.Errorf("has a key of %s, and by PKCS #7 ocicrypt encrypts to RSA alone; give its public key, as of `openssl x509 -pubkey -noout -in CERTIFICATE`", c.PublicKeyAlgorithm)
	}
	return nil
}

// envelop encrypts what is small to the keys of certificates.
func envelop(plain []byte, to []*x509.Certificate) ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	data := envelopedData{}
	for _, c := range to {
		//lint:ignore SA1019 it is what all versions of ocicrypt read; Debian 12's reads no other
		wrapped, err := rsa.EncryptPKCS1v15(rand.Reader, c.PublicKey.(*rsa.PublicKey), key)
		if err != nil {
			return nil, fmt.Errorf("encrypt to the certificate of %q: %w: %w", c.Subject, err, errdefs.ErrInvalidArgument)
		}
		data.Recipients = append(data.Recipients, envelopeRecipient{
			Issuer:    issuerAndSerial{asn1.RawValue{FullBytes: c.RawIssuer}, c.SerialNumber},
			Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSA},
			Key:       wrapped,
		})
	}
	aead, err := gcm(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	parameters, err := asn1.Marshal(gcmParameters{nonce, aead.Overhead()})
	if err != nil {
		return nil, err
	}
	data.Encrypted = encryptedContent{
		Type:      oidData,
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidAES256GCM, Parameters: asn1.RawValue{Tag: asn1.TagSequence, Bytes: parameters}},
		Content:   asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: aead.Seal(nil, nonce, plain, nil)},
	}
	inner, err := asn1.Marshal(data)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{oidEnvelopedData, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: inner}})
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// envelope is one that was read, and is open to whoever has the key.
type envelope struct {
	recipients []envelopeRecipient
	keySize    int // in bytes
	nonce      []byte
	sealed     []byte
}

// parseEnvelope reads what envelop and ocicrypt write, and nothing else.
func parseEnvelope(der []byte) (*envelope, error) {
	var info contentInfo
	var data envelopedData
	var parameters gcmParameters
	if err := unmarshal(der, &info); err != nil {
		return nil, err
	}
	if !info.ContentType.Equal(oidEnvelopedData) {
		return nil, fmt.Errorf("it is no EnvelopedData, but of type %s", info.ContentType)
	}
	if err := unmarshal(info.Content.Bytes, &data); err != nil {
		return nil, err
	}
	e := &envelope{recipients: data.Recipients}
	var err error
	if e.sealed, err = octets(data.Encrypted.Content); err != nil {
		return nil, err
	}
	switch algorithm := data.Encrypted.Algorithm.Algorithm; {
	case algorithm.Equal(oidAES128GCM):
		e.keySize = 16
	case algorithm.Equal(oidAES256GCM):
		e.keySize = 32
	default:
		return nil, fmt.Errorf("it is encrypted by the algorithm %s, and not by AES-GCM with 128 or 256 bits", algorithm)
	}
	if err := unmarshal(data.Encrypted.Algorithm.Parameters.Bytes, &parameters); err != nil {
		return nil, err
	}
	if e.nonce = parameters.Nonce; len(e.nonce) != 12 || parameters.Sum != 16 {
		return nil, fmt.Errorf("it has a nonce of %d bytes and a sum of %d, want 12 and 16", len(e.nonce), parameters.Sum)
	}
	return e, nil
}

// octets are those of a string that may be in parts, as those of ocicrypt 1.1 are.
func octets(v asn1.RawValue) (all []byte, err error) {
	if !v.IsCompound {
		return v.Bytes, nil
	}
	for rest := v.Bytes; len(rest) > 0; {
		var part []byte
		if rest, err = asn1.Unmarshal(rest, &part); err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

// unmarshal takes one value and nothing behind it.
func unmarshal(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes are behind it", len(rest))
	}
	return err
}

// open decrypts it, if the private key is that of a recipient. Which one is not said by the
// key, and so each is tried: by a key of another nothing comes that AES-GCM takes.
func (e *envelope) open(private *rsa.PrivateKey) ([]byte, bool) {
	for _, r := range e.recipients {
		if !r.Algorithm.Algorithm.Equal(oidRSA) || len(r.Key) != private.Size() {
			continue
		}
		key := make([]byte, e.keySize)
		rand.Read(key) // and stays, in the same time, where the padding is wrong: nobody learns which
		//lint:ignore SA1019 it is what ocicrypt writes
		if err := rsa.DecryptPKCS1v15SessionKey(nil, private, r.Key, key); err != nil {
			continue
		}
		aead, err := gcm(key)
		if err != nil {
			continue
		}
		if plain, err := aead.Open(nil, e.nonce, e.sealed, nil); err == nil {
			return plain, true
		}
	}
	return nil, false
}
