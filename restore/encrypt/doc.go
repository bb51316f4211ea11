// Package encrypt encrypts layers for those who have a key, as ocicrypt does, so that skopeo,
// containerd's imgcrypt and CRI-O can read them.
//
//	to, err := encrypt.ParseRecipients(publicPEM)
//	desc, open, err := to.Seal(layer, openLayer)        // to be pushed
//
//	keys, err := encrypt.ParseKeys(privatePEM)
//	key, err := keys.Unwrap(desc)
//	plain := key.Reader(r)
//
// The format is ocicrypt's (github.com/containers/ocicrypt, spec/spec.md): the layer is
// encrypted by AES-256-CTR with a key of its own and authenticated by HMAC-SHA256; the key is
// in annotations of the descriptor: as a JSON Web Encryption (RFC 7516) for those who have a
// public key, RSA or EC, and as EnvelopedData of PKCS #7 (RFC 5652) for those who have a
// certificate, with a key of RSA. ocicrypt itself is not used: its packages bring a cgo library
// for PKCS#11, OpenPGP and gRPC with them. Of its other ways to wrap a key this has none.
package encrypt
