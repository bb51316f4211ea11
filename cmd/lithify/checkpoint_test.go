package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lithify/lithify/test/keys"
)

// TestEncryptTo names recipients as skopeo and ctr do. Nothing is asked of containerd.
func TestEncryptTo(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	public := file("public.pem", keys.EC(t).Public)
	certificate := file("certificate.pem", keys.Certified(t, keys.Certificate{}).Public)
	pgp := file("pgp.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF0=\n-----END PGP PUBLIC KEY BLOCK-----\n")
	for to, want := range map[string]string{
		"pgp:ops@example.com":  "to keys of pgp nothing is encrypted here",
		pgp:                    "it is a key of OpenPGP",
		"provider:x":           "to keys of provider nothing",
		"jwe:" + certificate:   "pkcs7:FILE a certificate",
		"pkcs7:" + public:      "jwe:FILE wants a public key",
		public + ".none":       "no such file",
		public:                 "",
		"jwe:" + public:        "",
		certificate:            "",
		"pkcs7:" + certificate: "",
	} {
		var stdout, stderr bytes.Buffer
		args := []string{"checkpoint", "--containerd", filepath.Join(dir, "none.sock"), "--encrypt-to", to, "web", "registry.example.com/web:1"}
		code := execute(t.Context(), args, &stdout, &stderr)
		if usage := code == 2; usage != (want != "") || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, %q; want %q", to, code, stderr.String(), want)
		}
	}
}
