package queue

import (
	"encoding/json"
	"testing"

	"github.com/lithify/lithify/jobs"
)

// FuzzDecode feeds what a server or another process could hand us to everything
// that reads it.
func FuzzDecode(f *testing.F) {
	class := jobs.Class{Kind: "test", OS: "any", Arch: "any", Feature: "any"}
	f.Add(Line{jobs.Bulk, class}.Subject("test-1"), []byte(`{"url":"nats://x"}`))
	f.Add(runSubject("test-1"), []byte(`{"id":"test-1","class":"test","state":"queued","generation":1,"max_attempts":1}`))
	f.Add("w.bulk.a.b.c.d.e", []byte(`{"name":"w1","running":[{"id":"x-1","claim":1}],"classes":["a/b"]}`))
	f.Add("st.a.b.run", []byte(`{"seq":1,"phrase":"x","attrs":{"a":[1]}}`))
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		if l, id, err := ParseWork(subject); err == nil && l.Subject(id) != subject {
			t.Errorf("%q gives line %s and id %q, which give %q", subject, l, id, l.Subject(id))
		}
		if id, err := runID(subject); err == nil && runSubject(id) != subject {
			t.Errorf("%q gives id %q, which gives %q", subject, id, runSubject(id))
		}
		if c, err := decodeContext("x", data); err == nil && c.URL == "" {
			t.Error("a context without a url")
		}
		if n, err := decodeNode(data); err == nil {
			if _, err := json.Marshal(n); err != nil {
				t.Error(err)
			}
		}
		if c, err := decodeControls(data); err == nil {
			if _, err := json.Marshal(c); err != nil {
				t.Error(err)
			}
		}
		var e Event
		_ = json.Unmarshal(data, &e)
	})
}
