package queue

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/lithify/lithify/jobs"
)

const (
	signatureHeader = "Lithify-Signature"
	expiresHeader   = "Lithify-Expires" // unix seconds
	// signedAfter a job's deadline an admission is still good: a worker that takes
	// it then says that the job is late.
	signedAfter = time.Hour
)

// ErrNotSigned is what the pool's keys do not vouch for; it is of the kind
// errdefs.ErrUnauthenticated.
var ErrNotSigned = fmt.Errorf("not signed as this pool signs: %w", errdefs.ErrUnauthenticated)

// signed is a text that says what it is, so that none passes for another.
func signedText(what string, parts ...any) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "lithify %s 1\n", what)
	for _, p := range parts {
		fmt.Fprintf(&b, "%v\n", p)
	}
	return []byte(b.String())
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// admissionText is all that a worker acts on: which job, in which class, admitted
// from which revision of its record, and every byte of what it is to do.
func admissionText(subject string, h nats.Header, id jobs.ID, spec string) []byte {
	return signedText("admission", id, subject, h.Get(revisionHeader), spec, h.Get(expiresHeader))
}

// signAdmission signs the message that admits st, if this client has a key.
func (c *Client) signAdmission(m *nats.Msg, st Status) {
	if c.key == nil {
		return
	}
	m.Header.Set(expiresHeader, strconv.FormatInt(st.Deadline.Add(signedAfter).Unix(), 10))
	m.Header.Set(signatureHeader, c.sign(admissionText(m.Subject, m.Header, st.ID, st.spec)))
}

func (c *Client) sign(text []byte) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(c.key, text))
}

// CheckAdmission reports whether the pool's scheduler admitted the job st, exactly
// as it is, by a message of this subject and these headers. Without the pool's keys
// every message will do.
func (c *Client) CheckAdmission(subject string, h nats.Header, st Status) error {
	if c.keys == nil {
		return nil
	}
	if err := verify(c.keys.Scheduler, admissionText(subject, h, st.ID, st.spec), h.Get(signatureHeader)); err != nil {
		return fmt.Errorf("admission of job %s: %w", st.ID, err)
	}
	if at, err := strconv.ParseInt(h.Get(expiresHeader), 10, 64); err != nil || time.Now().Unix() > at {
		return fmt.Errorf("admission of job %s has expired: %w", st.ID, ErrNotSigned)
	}
	return nil
}

func verify(public string, text []byte, signature string) error {
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || len(sig) == 0 {
		return ErrNotSigned
	}
	key, err := nkeys.FromPublicKey(public)
	if err != nil {
		return errors.Join(ErrNotSigned, err)
	}
	if key.Verify(text, sig) != nil {
		return ErrNotSigned
	}
	return nil
}

func resultText(id jobs.ID, claim uint64, result []byte) []byte {
	return signedText("result", id, claim, digestOf(result))
}

// signedEdge is e with this client's signature where it brings a result. The result
// is put into the form in which the record will hold it.
func (c *Client) signedEdge(id jobs.ID, e jobs.Edge) (jobs.Edge, error) {
	f, ok := e.(jobs.Finish)
	if !ok || c.key == nil {
		return e, nil
	}
	if len(f.Result) > 0 {
		var err error
		if f.Result, err = json.Marshal(f.Result); err != nil {
			return e, fmt.Errorf("result of job %s: %w", id, err)
		}
	}
	f.Signer, f.Signature = c.public, c.sign(resultText(id, f.Claim, f.Result))
	return f, nil
}

// believed is st as a reader that has the pool's keys sees it: a result that no key
// of its class signed is none, and the job has failed of it.
func (c *Client) believed(st Status) Status {
	if c.keys == nil || st.State != jobs.Done {
		return st
	}
	if err := c.keys.checkResult(st); err != nil {
		st.Record = jobs.Disbelieved(st.Record, err)
	}
	return st
}

// checkResult goes by the class of the job: whoever may write the record wrote its
// class, too.
func (k *Keys) checkResult(st Status) error {
	w := k.worker(st.Signer)
	switch {
	case st.Signer == "":
		return fmt.Errorf("result of worker %s: %w", st.Worker, ErrNotSigned)
	case w == nil:
		return fmt.Errorf("result of worker %s: key %s is none of this pool's workers: %w", st.Worker, st.Signer, ErrNotSigned)
	case !w.serves(st.Job.Class):
		return fmt.Errorf("result of worker %s: its key is not for class %s: %w", st.Worker, st.Job.Class, ErrNotSigned)
	}
	if err := verify(st.Signer, resultText(st.ID, st.Claim, st.Result), st.Signature); err != nil {
		return fmt.Errorf("result of worker %s: %w", st.Worker, err)
	}
	return nil
}
