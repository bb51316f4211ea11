//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// haystack is where a pool can leave something: files, messages, and what its programs
// say.
type haystack struct {
	t     *testing.T
	pool  pool
	root  string // of the files
	heard map[string]func() string
}

func newHaystack(t *testing.T) *haystack {
	t.Helper()
	h := &haystack{t: t, root: t.TempDir(), heard: map[string]func() string{}}
	h.pool = pool{home: h.dir("home"), env: []string{"TMPDIR=" + h.dir("tmp")}}
	return h
}

// dir makes a directory that is looked into.
func (h *haystack) dir(name string) string {
	h.t.Helper()
	dir := filepath.Join(h.root, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	return dir
}

// hears has what a process says looked into.
func (h *haystack) hears(name string, p *process) *process {
	h.heard[name] = p.said
	return p
}

// lithify runs the command line. What it says is looked into.
func (h *haystack) lithify(args ...string) error {
	h.t.Helper()
	out, err := h.pool.command(h.t, lithify(h.t), args...).CombinedOutput()
	line := "lithify " + strings.Join(args, " ")
	h.heard[line] = func() string { return string(out) }
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", line, err, tail(string(out)))
	}
	return nil
}

// find names the places that hold one of the secrets.
func (h *haystack) find(js jetstream.JetStream, secrets []string) (places []string) {
	h.t.Helper()
	var needles [][]byte
	for _, s := range secrets {
		needles = append(needles, spellings(s)...)
	}
	look := func(place string, hay []byte) {
		if slices.ContainsFunc(needles, func(n []byte) bool { return bytes.Contains(hay, n) }) {
			places = append(places, place)
		}
	}
	for who, said := range h.heard {
		look("what is said by "+who, []byte(said()))
	}
	h.eachFile(look)
	h.eachMessage(js, look)
	return places
}

func (h *haystack) eachFile(look func(string, []byte)) {
	h.t.Helper()
	err := filepath.WalkDir(h.root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !e.Type().IsRegular() { // the server replaces files
			return nil
		}
		b, rerr := os.ReadFile(path)
		if errors.Is(rerr, fs.ErrNotExist) {
			return err
		}
		look("file "+strings.TrimPrefix(path, h.root), b)
		return errors.Join(err, rerr)
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *haystack) eachMessage(js jetstream.JetStream, look func(string, []byte)) {
	h.t.Helper()
	streams := js.ListStreams(h.t.Context())
	for info := range streams.Info() {
		s, err := js.Stream(h.t.Context(), info.Config.Name)
		if err != nil {
			h.t.Fatal(err)
		}
		for seq := info.State.FirstSeq; seq > 0 && seq <= info.State.LastSeq; seq++ {
			m, err := s.GetMsg(h.t.Context(), seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				h.t.Fatal(err)
			}
			look(fmt.Sprintf("message %s of %s", m.Subject, info.Config.Name), fmt.Append(nil, m.Subject, m.Header, string(m.Data)))
		}
	}
	if err := streams.Err(); err != nil {
		h.t.Fatal(err)
	}
}

// spellings are the forms in which a text of letters and digits may lie in another:
// as it is, as it also is in a URL or in JSON, in hexadecimal, and in base64, which
// depends on how much stands before it.
func spellings(s string) (all [][]byte) {
	all = append(all, []byte(s), []byte(hex.EncodeToString([]byte(s))))
	for before := range 3 {
		code := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + s))
		all = append(all, []byte(code[(before*8+5)/6:(before+len(s))*8/6]))
	}
	return all
}

// plant puts secrets into all kinds of places, and names these.
func (h *haystack) plant(js jetstream.JetStream, secrets []string) (places []string) {
	h.t.Helper()
	basic := base64.StdEncoding.EncodeToString([]byte("robot:" + password))
	last := secrets[len(secrets)-1]
	for _, m := range []*nats.Msg{
		{Subject: "ev.convert.planted", Data: []byte(`{"error":"Authorization: Basic ` + basic + `"}`)},
		{Subject: "st.convert.planted.spec", Header: nats.Header{"Planted": {url.QueryEscape(password)}}},
		{Subject: "dlq.convert.planted", Data: []byte("Bearer x.y." + last)},
		{Subject: "$KV.controls.planted", Data: []byte(password)},
	} {
		a, err := js.PublishMsg(h.t.Context(), m)
		if err != nil {
			h.t.Fatal(err)
		}
		places = append(places, fmt.Sprintf("message %s of %s", m.Subject, a.Stream))
	}
	if err := os.WriteFile(filepath.Join(h.dir("layers"), "planted"), []byte(password), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.heard["planted"] = func() string { return hex.EncodeToString([]byte(password)) }
	return append(places, "file /layers/planted", "what is said by planted", "what is said by nats-server", "streams/DLQ/msgs/")
}
