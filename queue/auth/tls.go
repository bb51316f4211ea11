package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// caYears outlasts the machines; the CA's key need not be kept with the servers.
	caYears = 10
	// certYears is the time after which "lithify auth init" is called again.
	certYears = 5
)

// certificate is that of one server, as files.
type certificate struct{ cert, key, ca string }

// certificates makes one for each server, or gives those that the operator has.
func (w *writer) certificates() (certs []certificate) {
	if w.c.TLSCert != "" {
		return w.ownCertificates()
	}
	w.made.CA = w.c.Path("ca.pem")
	ca, err := newAuthority()
	if err != nil {
		w.err = err
		return nil
	}
	w.file("ca.pem", "the certificate that everybody checks the servers' by (--tls-ca)", ca.certPEM, 0o644)
	w.file("ca-key.pem", "its key, to sign more servers' with; nobody needs it to run the pool", ca.keyPEM, 0o600)
	for i, name := range w.serverNames() {
		hosts := w.c.Hosts
		if len(w.c.Cluster) > 0 {
			hosts = []string{w.c.Cluster[i]}
		}
		c, err := ca.issue(hosts)
		if err != nil {
			w.err = err
			return nil
		}
		of := "the server's"
		if len(w.c.Cluster) > 0 {
			of = "the certificate of the server on " + w.c.Cluster[i]
		} else {
			of += " certificate"
		}
		w.file(name+".pem", of, c.certPEM, 0o644)
		w.file(name+"-key.pem", "its key", c.keyPEM, 0o600)
		certs = append(certs, certificate{w.c.Path(name + ".pem"), w.c.Path(name + "-key.pem"), w.made.CA})
	}
	return certs
}

func (w *writer) serverNames() (names []string) {
	for _, h := range w.c.Cluster {
		names = append(names, "server-"+h)
	}
	if len(names) == 0 {
		return []string{"server"}
	}
	return names
}

func (w *writer) ownCertificates() (certs []certificate) {
	var own [3]string
	for i, f := range []string{w.c.TLSCert, w.c.TLSKey, w.c.TLSCA} {
		path, err := filepath.Abs(f)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			w.err = err
			return nil
		}
		own[i] = path
	}
	w.made.CA = own[2]
	for range w.serverNames() {
		certs = append(certs, certificate{own[0], own[1], own[2]})
	}
	return certs
}

// pair is a certificate and its key.
type pair struct {
	cert            *x509.Certificate
	key             *ecdsa.PrivateKey
	certPEM, keyPEM []byte
}

func newAuthority() (pair, error) {
	return newPair(&x509.Certificate{
		Subject: pkix.Name{CommonName: "lithify pool CA"}, NotAfter: time.Now().AddDate(caYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil)
}

// issue makes the certificate of a server. A route of a cluster has a server at
// either end, so it is a client's, too.
func (ca pair) issue(hosts []string) (pair, error) {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, NotAfter: time.Now().AddDate(certYears, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	return newPair(c, &ca)
}

// newPair makes a certificate, signed by ca or by itself.
func newPair(c *x509.Certificate, ca *pair) (p pair, err error) {
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return p, err
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return p, err
	}
	c.NotBefore = time.Now().Add(-time.Hour) // clocks differ
	parent, signer := c, p.key
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, p.key.Public(), signer)
	if err != nil {
		return p, fmt.Errorf("make certificate of %s: %w", c.Subject.CommonName, err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		return p, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return p, err
	}
	p.certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return p, nil
}

// randomPassword is for the routes between the servers.
func randomPassword() string { return rand.Text() }
