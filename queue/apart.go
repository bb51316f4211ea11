package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
)

// Account is the NATS account that this client is in as a worker, by the pool's
// keys; empty if it is in that of the streams.
func (c *Client) Account() string {
	if w := c.own(); w != nil {
		return w.Account
	}
	return ""
}

// CheckAccount is errdefs.ErrPermissionDenied if the client's account does not hold the
// pool's streams: it is a worker's, which takes jobs and neither submits nor lists any.
func (c *Client) CheckAccount(ctx context.Context) error {
	apart := c.Account() != ""
	if !apart {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_, err := c.js.AccountInfo(ctx)
		apart = apiCode(err) == jetstream.JSErrCodeJetStreamNotEnabledForAccount
	}
	if apart {
		return fmt.Errorf("the key is a worker's, which only takes jobs: --nkey wants the one of those who submit (client.nk of lithify auth init): %w", errdefs.ErrPermissionDenied)
	}
	return nil
}

// Classes are those that this client's key may serve; none: all.
func (c *Client) Classes() []jobs.Class {
	if w := c.own(); w != nil {
		return w.Classes
	}
	return nil
}

func (c *Client) own() *WorkerKey {
	if c.keys == nil {
		return nil
	}
	return c.keys.worker(c.public)
}

// newJetStream asks by the names that the client's account has for JetStream's API.
func (c *Client) newJetStream() (jetstream.JetStream, error) {
	opt := jetstream.WithDefaultTimeout(callTimeout)
	if c.Account() == "" {
		return jetstream.New(c.nc, opt)
	}
	return jetstream.NewWithAPIPrefix(c.nc, localPrefix+"API", opt)
}

// readers bounds the requests of one read that are under way.
const readers = 64

// lastApart is lastOnce for a client in an account of its own. It asks for each
// subject by itself: the request for several has them in its body, where no server
// checks them. Records come before the jobs: of two versions of both one then gets an
// old record with the new job, which nothing can be written to.
func (c *Client) lastApart(ctx context.Context, stream string, subjects []string) (map[string]*jetstream.RawStreamMsg, error) {
	found := make([]*jetstream.RawStreamMsg, len(subjects))
	for _, records := range []bool{true, false} {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(readers)
		for i, s := range subjects {
			if strings.HasSuffix(s, ".run") != records {
				continue
			}
			g.Go(func() (err error) {
				found[i], err = c.lastOf(ctx, stream, s)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
	}
	out := make(map[string]*jetstream.RawStreamMsg, len(subjects))
	for i, m := range found {
		if m != nil {
			out[subjects[i]] = m
		}
	}
	return out, nil
}

// lastOf is the last message of a subject, or nil.
func (c *Client) lastOf(ctx context.Context, stream, subject string) (*jetstream.RawStreamMsg, error) {
	m, err := c.nc.RequestWithContext(ctx, localPrefix+"API.DIRECT.GET."+stream+"."+subject, nil)
	if err != nil {
		return nil, err
	}
	switch status := m.Header.Get("Status"); status {
	case "":
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("read %s: %s %s", subject, status, m.Header.Get("Description"))
	}
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	at, terr := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err = errors.Join(err, terr); err != nil {
		return nil, fmt.Errorf("read %s: %w", subject, err)
	}
	return &jetstream.RawStreamMsg{Subject: m.Header.Get(jetstream.SubjectHeader), Sequence: seq, Header: m.Header, Data: m.Data, Time: at}, nil
}

// heardAt is where this client hears of what is published under a subject.
func (c *Client) heardAt(subject string) string {
	if c.Account() == "" {
		return subject
	}
	return localPrefix + subject
}
