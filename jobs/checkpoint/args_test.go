package checkpoint_test

import (
	"encoding/pem"
	"testing"

	"github.com/lithify/lithify/jobs/checkpoint"
)

// What is private is not stored with a job, whatever stands before it.
func TestEncryptTo(t *testing.T) {
	block := func(kind string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("x")}))
	}
	public, private := block("PUBLIC KEY"), block("PRIVATE KEY")
	for name, tt := range map[string]struct {
		key  string
		good bool
	}{
		"public":             {public + "\n", true},
		"certificate":        {block("CERTIFICATE"), true},
		"private":            {private, false},
		"private behind it":  {public + private, false},
		"half of one before": {private[:20] + "\n" + public, false},
		"two in one":         {public + public, false},
		"no PEM":             {"ssh-rsa AAAA", false},
	} {
		a := checkpoint.Args{Container: "web", Target: "r.example.com/web:saved", EncryptTo: []string{tt.key}}
		if err := a.Validate(); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
