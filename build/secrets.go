package build

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/lithify/lithify/convert/registry"
)

// secrets are what steps may mount, by ID.
type secrets map[string][]byte

func readSecrets(specs []string) (secrets, error) {
	s := secrets{}
	for _, spec := range specs {
		from, err := parseSecret(spec)
		if err != nil {
			return nil, err
		}
		if s[from.ID], err = readSecret(from); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// SecretID is the name that a secret in buildctl's words has for the Dockerfile.
func SecretID(spec string) (string, error) {
	from, err := parseSecret(spec)
	return from.ID, err
}

// parseSecret reads buildctl's --secret, of which only the command's own package can.
func parseSecret(spec string) (from secretsprovider.Source, err error) {
	fields, err := csvvalue.Fields(spec, nil)
	if err != nil {
		return from, invalid("secret %q: %w", spec, err)
	}
	kind := ""
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		switch strings.ToLower(key) {
		case "id":
			from.ID = value
		case "src", "source":
			from.FilePath = value
		case "env":
			from.Env = value
		case "type":
			kind = value
		default:
			ok = false
		}
		if !ok {
			return from, invalid("secret %q: want id=ID,src=FILE or id=ID,env=NAME", spec)
		}
	}
	switch {
	case from.ID == "" || kind != "" && kind != "file" && kind != "env":
		return from, invalid("secret %q: want id=ID,src=FILE or id=ID,env=NAME", spec)
	case kind == "env" && from.Env == "":
		from.Env, from.FilePath = from.FilePath, ""
	}
	if from.Env == "" && from.FilePath == "" { // what its ID names
		if _, ok := os.LookupEnv(from.ID); ok {
			from.Env = from.ID
		} else {
			from.FilePath = from.ID
		}
	}
	return from, nil
}

func readSecret(from secretsprovider.Source) ([]byte, error) {
	if from.Env != "" {
		value, ok := os.LookupEnv(from.Env)
		if !ok {
			return nil, invalid("secret %s: $%s is not set", from.ID, from.Env)
		}
		return []byte(value), nil
	}
	info, err := os.Stat(from.FilePath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("secret %s: %w: %w", from.ID, err, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", from.ID, err)
	}
	if !info.Mode().IsRegular() || info.Size() > secretsprovider.MaxSecretSize {
		return nil, invalid("secret %s: %s is no file of at most %d bytes", from.ID, from.FilePath, secretsprovider.MaxSecretSize)
	}
	raw, err := os.ReadFile(from.FilePath)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", from.ID, err)
	}
	return raw, nil
}

// minHidden is the shortest line of a secret that is hidden: fewer bytes are in everything.
const minHidden = 4

// hidden are the lines of the secrets, the longest first.
func (s secrets) hidden() (lines [][]byte) {
	for _, value := range s {
		for line := range bytes.Lines(value) {
			if line = bytes.TrimSpace(line); len(line) >= minHidden {
				lines = append(lines, line)
			}
		}
	}
	slices.SortFunc(lines, func(a, b []byte) int { return cmp.Compare(len(b), len(a)) })
	return lines
}

// hide takes secrets out of what steps print, as far as they print lines of them whole, and
// signed URLs out of what went wrong.
func hide(lines [][]byte, s *client.SolveStatus) {
	for _, v := range s.Vertexes {
		v.Error = registry.Redact(v.Error)
	}
	for _, l := range s.Logs {
		for _, secret := range lines {
			l.Data = bytes.ReplaceAll(l.Data, secret, []byte("***"))
		}
	}
}
