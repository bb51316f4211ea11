package queue

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// An archive is a pool as text, as Export writes and Import reads it: a JSON object a
// line. The first line says what it is, the last counts what is between them, so that
// an archive that was cut off is known by it:
//
//	{"format":"lithify-queue","version":1,"lithify":"v1.0.0","time":"2027-01-31T03:00:00Z"}
//	{"messages":[{"subject":"st.convert.06bq.spec","data":"eyJp..."},{"subject":"st.convert.06bq.run","data":"eyJp..."}]}
//	{"end":{"jobs":1,"events":0,"letters":0,"timetables":0,"controls":0}}
//
// Each line between has messages that are written in one step, with the bytes that
// their stream holds: of a job the job itself and its record. Controls come first,
// timetables last.

const (
	archiveFormat  = "lithify-queue"
	archiveVersion = 1
	// archiveLineMax is more than two messages of the largest server.
	archiveLineMax = 256 << 20
)

type archiveHeader struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Lithify string    `json:"lithify"` // version of the program
	Time    time.Time `json:"time"`
}

type archiveLine struct {
	Messages []archived `json:"messages,omitempty"`
	Due      time.Time  `json:"due,omitzero"` // of a fire: it is one if this has passed
	End      *Contents  `json:"end,omitempty"`
	Signers  []string   `json:"signers,omitempty"` // with End: public keys that signed results
}

type archived struct {
	Subject string      `json:"subject"`
	Header  nats.Header `json:"header,omitempty"`
	Data    []byte      `json:"data"`
}

// Contents counts what an archive holds.
type Contents struct {
	Jobs       int `json:"jobs"`
	Events     int `json:"events"` // of the jobs' histories
	Letters    int `json:"letters"`
	Timetables int `json:"timetables"`
	Controls   int `json:"controls"` // 1 if anything was decided
}

// String is the contents in words.
func (c Contents) String() string {
	return fmt.Sprintf("%d jobs with %d events, %d dead letters, %d timetables", c.Jobs, c.Events, c.Letters, c.Timetables)
}

const streamControls = "KV_" + bucketControls

func (c *Contents) add(l archiveLine) {
	switch s := l.Messages[0].Subject; streamOf(s) {
	case streamState:
		c.Jobs++
	case streamEvents:
		c.Events++
	case streamDead:
		c.Letters++
	case streamControls:
		c.Controls++
	case streamSched:
		if strings.HasPrefix(s, schedPrefix) {
			c.Timetables++
		}
	}
}

// streamOf is the stream of a subject that an archive may have; empty for others.
func streamOf(subject string) string {
	switch first, _, _ := strings.Cut(subject, "."); {
	case first == "st":
		return streamState
	case first == "ev":
		return streamEvents
	case first == "dlq":
		return streamDead
	case strings.HasPrefix(subject, schedPrefix), strings.HasPrefix(subject, firePrefix):
		return streamSched
	case subject == subjectControls:
		return streamControls
	}
	return ""
}

const subjectControls = "$KV." + bucketControls + "." + keyControls

// archive makes of a stored message what is written again: without the headers that
// belong to how it was written here.
func archive(m *jetstream.RawStreamMsg) archived {
	h := maps.Clone(m.Header)
	maps.DeleteFunc(h, func(k string, _ []string) bool {
		return strings.HasPrefix(k, "Nats-") && !strings.HasPrefix(k, "Nats-Schedule")
	})
	return archived{Subject: m.Subject, Header: h, Data: m.Data}
}

// message is m as it is written to a subject that has none.
func (m archived) message() *nats.Msg {
	msg := nats.NewMsg(m.Subject)
	for k, v := range m.Header {
		msg.Header[k] = v
	}
	msg.Data = m.Data
	if streamOf(m.Subject) != streamEvents {
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	}
	return msg
}

type archiveWriter struct {
	to      *bufio.Writer
	enc     *json.Encoder
	found   Contents
	signers map[string]bool
}

func newArchiveWriter(w io.Writer, version string) (*archiveWriter, error) {
	a := &archiveWriter{to: bufio.NewWriter(w), signers: map[string]bool{}}
	a.enc = json.NewEncoder(a.to)
	return a, a.enc.Encode(archiveHeader{archiveFormat, archiveVersion, version, time.Now().UTC()})
}

func (a *archiveWriter) add(l archiveLine) error {
	a.found.add(l)
	return a.enc.Encode(l)
}

func (a *archiveWriter) end() error {
	err := a.enc.Encode(archiveLine{End: &a.found, Signers: slices.Sorted(maps.Keys(a.signers))})
	return errors.Join(err, a.to.Flush())
}

type archiveReader struct {
	from    *bufio.Scanner
	line    int
	found   Contents
	signers []string
}

// newArchiveReader reads the first line. What is no archive is
// errdefs.ErrInvalidArgument, one of a later version errdefs.ErrFailedPrecondition.
func newArchiveReader(r io.Reader) (*archiveReader, error) {
	a := &archiveReader{from: bufio.NewScanner(r)}
	a.from.Buffer(nil, archiveLineMax)
	var h archiveHeader
	if !a.scan() {
		if err := a.from.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
			return nil, a.fault(err)
		}
	} else if json.Unmarshal(a.from.Bytes(), &h) == nil && h.Format == archiveFormat {
		if h.Version != archiveVersion {
			return nil, a.fault(fmt.Errorf("the archive has version %d, made by lithify %s; this lithify reads version %d: %w",
				h.Version, h.Lithify, archiveVersion, errdefs.ErrFailedPrecondition))
		}
		return a, nil
	}
	return nil, a.fault(fmt.Errorf("this is no archive of a pool: %w", errdefs.ErrInvalidArgument))
}

func (a *archiveReader) scan() bool {
	a.line++
	return a.from.Scan()
}

func (a *archiveReader) fault(err error) error { return fmt.Errorf("line %d: %w", a.line, err) }

// next gives a line that has messages; io.EOF after the last one, if all are there.
// A damaged archive, or one that was cut off, is errdefs.ErrDataLoss.
func (a *archiveReader) next() (l archiveLine, err error) {
	if !a.scan() {
		return l, a.cut()
	}
	if err := json.Unmarshal(a.from.Bytes(), &l); err != nil {
		line := a.line
		if !a.scan() {
			return l, a.cut()
		}
		return l, fmt.Errorf("line %d: %w: %w", line, err, errdefs.ErrDataLoss)
	}
	if l.End != nil {
		return l, a.end(l)
	}
	if err := l.check(); err != nil {
		return l, a.fault(fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss))
	}
	a.found.add(l)
	return l, nil
}

func (a *archiveReader) cut() error {
	if err := a.from.Err(); err != nil {
		return a.fault(err)
	}
	return a.fault(fmt.Errorf("the archive ends without its last line, it was cut off: %w", errdefs.ErrDataLoss))
}

func (a *archiveReader) end(l archiveLine) error {
	if *l.End != a.found {
		return a.fault(fmt.Errorf("the archive is to hold %v and holds %v: %w", *l.End, a.found, errdefs.ErrDataLoss))
	}
	if a.signers = l.Signers; a.scan() {
		return a.fault(fmt.Errorf("there is more behind the archive's last line: %w", errdefs.ErrDataLoss))
	}
	if err := a.from.Err(); err != nil {
		return a.fault(err)
	}
	return io.EOF
}

// check wants messages that may stand in one line: a job and its record, or any other
// alone.
func (l archiveLine) check() error {
	if len(l.Messages) == 0 {
		return errors.New("there is no message in it")
	}
	run := l.Messages[len(l.Messages)-1].Subject
	stream := streamOf(run)
	if stream == "" || strings.ContainsAny(run, "*> \t\r\n") {
		return fmt.Errorf("subject %q is none of an archive's", run)
	}
	if stream != streamState {
		if len(l.Messages) > 1 {
			return fmt.Errorf("%s does not stand alone", run)
		}
		return nil
	}
	id, err := runID(run)
	if err != nil {
		return err
	}
	if len(l.Messages) != 2 || l.Messages[0].Subject != specSubject(id) {
		return fmt.Errorf("%s does not follow its job", run)
	}
	return nil
}

// CheckArchive reads an archive to its end and says what it holds. One that is
// damaged or was cut off is errdefs.ErrDataLoss.
func CheckArchive(r io.Reader) (Contents, error) {
	a, err := newArchiveReader(r)
	for err == nil {
		_, err = a.next()
	}
	if errors.Is(err, io.EOF) {
		return a.found, nil
	}
	return Contents{}, fmt.Errorf("read archive: %w", err)
}
