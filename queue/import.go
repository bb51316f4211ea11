package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Imported is what became of an archive.
type Imported struct {
	Contents // of the archive
	// Present counts the lines that were there already, as they are in the archive.
	Present int `json:"present"`
	// Different names what the pool has otherwise, and keeps.
	Different []string `json:"different,omitempty"`
	// Strangers are keys that signed results and are none of the workers' in this
	// client's Keys: it does not believe these results.
	Strangers []string `json:"strangers,omitempty"`
}

const (
	importLines = groupMessages / 2 // in one step, at most
	importBytes = groupBytes
	importTries = 3
)

// Import writes an archive into a pool, and makes the pool's streams if there are none.
// What the pool has already stays as it is: what is the same is passed over, so an
// import that was interrupted is done again from the beginning, and what is not is
// named, and at the end is errdefs.ErrAlreadyExists.
//
// An archive that is damaged or was cut off is errdefs.ErrDataLoss, after what stands
// before that place was written: see CheckArchive. A scheduler that is there is
// errdefs.ErrFailedPrecondition.
func (c *Client) Import(ctx context.Context, r io.Reader, t Transfer) (Imported, error) {
	fail := func(err error) (Imported, error) { return Imported{}, fmt.Errorf("import: %w", err) }
	a, err := newArchiveReader(r)
	if err != nil {
		return fail(err)
	}
	if err := c.Setup(ctx, t.Replicas); err != nil {
		return fail(err)
	}
	ctx, done, err := c.alone(ctx, t.Version, max(t.Replicas, 1))
	if err != nil {
		return fail(err)
	}
	defer done()
	im := importer{c: c, now: time.Now()}
	if err := im.read(ctx, a, t); err != nil {
		return fail(cause(ctx, err))
	}
	im.Contents, im.Strangers = a.found, c.strangers(a.signers)
	if n := len(im.Different); n > 0 {
		const named = 10
		return im.Imported, fmt.Errorf("import: the pool has %d of the archive's otherwise, and keeps its own: %s: %w",
			n, strings.Join(im.Different[:min(n, named)], ", "), errdefs.ErrAlreadyExists)
	}
	return im.Imported, nil
}

func (c *Client) strangers(signers []string) (out []string) {
	for _, key := range signers {
		if c.keys != nil && c.keys.worker(key) == nil {
			out = append(out, key)
		}
	}
	return out
}

type importer struct {
	Imported
	c   *Client
	now time.Time
}

// read writes line by line what is read: as many of one stream at once as there are
// and as fit.
func (im *importer) read(ctx context.Context, a *archiveReader, t Transfer) error {
	var lines []archiveLine
	var stream string
	size := 0
	for {
		l, err := a.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(im.write(ctx, stream, lines), err)
		}
		next := ""
		if err == nil {
			next = streamOf(l.Messages[0].Subject)
		}
		if len(lines) > 0 && (next != stream || len(lines) == importLines || size > importBytes) {
			if werr := im.write(ctx, stream, lines); werr != nil {
				return werr
			}
			lines, size = nil, 0
			t.tell(a.found)
		}
		if err != nil {
			return nil
		}
		lines, stream = append(lines, l), next
		for _, m := range l.Messages {
			size += len(m.Data)
		}
	}
}

// write writes lines of one stream that are not there. What another writes at the
// same time is looked at again.
func (im *importer) write(ctx context.Context, stream string, lines []archiveLine) error {
	for try := 1; len(lines) > 0; try++ {
		missing, err := im.missing(ctx, stream, lines)
		if err != nil {
			return err
		}
		lines = nil
		for i, err := range im.c.writeLines(ctx, stream, missing) {
			switch {
			case err == nil:
			case errdefs.IsConflict(err) && try < importTries:
				lines = append(lines, missing[i])
			default:
				return fmt.Errorf("write %s: %w", missing[i].Messages[0].Subject, err)
			}
		}
	}
	return nil
}

// missing are those of lines of which the stream has nothing.
func (im *importer) missing(ctx context.Context, stream string, lines []archiveLine) (missing []archiveLine, _ error) {
	var subjects []string
	for _, l := range lines {
		for _, m := range l.Messages {
			subjects = append(subjects, m.Subject)
		}
	}
	slices.Sort(subjects)
	there, err := im.c.last(ctx, stream, slices.Compact(subjects)...)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		switch first := l.Messages[0]; {
		case stream == streamEvents:
			if !passed(there[first.Subject], first) {
				missing = append(missing, l)
			}
		case !l.Due.IsZero():
			if l.Due.Before(im.now) && there[first.Subject] == nil {
				missing = append(missing, l)
			}
		case !slices.ContainsFunc(l.Messages, func(m archived) bool { return there[m.Subject] != nil }):
			missing = append(missing, l)
		case slices.ContainsFunc(l.Messages, func(m archived) bool { return !m.same(there[m.Subject]) }):
			im.Different = append(im.Different, l.name())
		default:
			im.Present++
		}
	}
	return missing, nil
}

// passed reports whether an event need not be written: the last one of its job is
// of the same place or a later one, or the job has a history of this pool.
func passed(last *jetstream.RawStreamMsg, m archived) bool {
	if last == nil {
		return false
	}
	at, err := strconv.ParseUint(last.Header.Get(placeHeader), 10, 64)
	place, _ := strconv.ParseUint(m.Header.Get(placeHeader), 10, 64)
	return err != nil || place <= at
}

func (m archived) same(there *jetstream.RawStreamMsg) bool {
	return there != nil && bytes.Equal(m.Data, there.Data) && maps.EqualFunc(m.Header, archive(there).Header, slices.Equal)
}

// name is what a person calls it.
func (l archiveLine) name() string {
	s := l.Messages[len(l.Messages)-1].Subject
	if id, err := runID(s); err == nil {
		return "job " + string(id)
	}
	switch streamOf(s) {
	case streamControls:
		return "controls"
	case streamSched:
		return "cron " + strings.TrimPrefix(s, schedPrefix)
	}
	return s
}

// writeLines writes each line in one step, and tells how it went with each.
func (c *Client) writeLines(ctx context.Context, stream string, lines []archiveLine) (errs []error) {
	sets := make([][]*nats.Msg, len(lines))
	for i, l := range lines {
		for _, m := range l.Messages {
			sets[i] = append(sets[i], m.message())
		}
	}
	if stream == streamState {
		errs = c.state.all(ctx, sets)
	} else {
		errs = c.state.apart(ctx, slices.Concat(sets...))
	}
	for i, err := range errs {
		errs[i] = refused(err)
	}
	return errs
}
