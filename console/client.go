package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// Client asks a pool's API for jobs, where its NATS is out of reach: from CI. Its methods
// are those of queue.Client, with the same errors, and a connection that breaks is made
// again.
type Client struct {
	URL   string                                    // https://lithify.example.com
	Token func(ctx context.Context) (string, error) // called for each request: tokens of CI live for minutes
	HTTP  *http.Client                              // default one that follows no redirect: it would take the token along
}

const (
	// askTimeout bounds a request that is no stream, and askTries how often it is made
	// where the pool or a proxy before it says that it is away.
	askTimeout = 30 * time.Second
	askTries   = 5
	// askAgain is the pause before the next try, and streamAgain before a stream goes on.
	askAgain    = time.Second
	streamAgain = time.Second
	// streamTries in a row are made of a stream that gives nothing.
	streamTries = 300
)

// Submit asks for a job like j: of its kind, args, priority and times. Its ID makes
// asking again safe; that of the answer is the pool's.
func (c *Client) Submit(ctx context.Context, j jobs.Job) (st queue.Status, err error) {
	if j.Tenant != "" && j.Tenant != jobs.DefaultTenant {
		return st, fmt.Errorf("tenant %s: through the API a job's tenant is that of the token's grant: %w", j.Tenant, errdefs.ErrInvalidArgument)
	}
	begin := j.Created
	if j.NotBefore.After(begin) {
		begin = j.NotBefore
	}
	body, err := json.Marshal(Request{Kind: j.Kind, Args: j.Args, Key: string(j.ID), Priority: j.Priority,
		Timeout: int64(j.Deadline.Sub(begin) / time.Second), NotBefore: j.NotBefore})
	if err != nil {
		return st, err
	}
	return st, c.ask(ctx, http.MethodPost, "/v1/jobs", body, &st)
}

// Get reads a job.
func (c *Client) Get(ctx context.Context, id jobs.ID) (st queue.Status, err error) {
	return st, c.ask(ctx, http.MethodGet, jobPath(id, ""), nil, &st)
}

// Cancel ends a job. The pool says that it was through the API, whatever the reason.
func (c *Client) Cancel(ctx context.Context, id jobs.ID, _ string) (st queue.Status, err error) {
	return st, c.ask(ctx, http.MethodPost, jobPath(id, "/cancel"), nil, &st)
}

// Wait returns when the job has ended, in whichever way.
func (c *Client) Wait(ctx context.Context, id jobs.ID) (queue.Status, error) {
	st, err := c.Get(ctx, id)
	if err != nil || st.State.Ended() {
		return st, err
	}
	for _, err := range c.Watch(ctx, id, 0) {
		if err != nil {
			return st, err
		}
	}
	return c.Get(ctx, id)
}

// Watch gives the history of a job, then its new events, until it has ended.
func (c *Client) Watch(ctx context.Context, id jobs.ID, after uint64) iter.Seq2[queue.Event, error] {
	return follow[queue.Event](ctx, c, jobPath(id, "/events"), after)
}

// ReadLog gives what a job printed, then what it prints, until it has ended.
func (c *Client) ReadLog(ctx context.Context, id jobs.ID, after uint64) iter.Seq2[queue.LogPart, error] {
	return follow[queue.LogPart](ctx, c, jobPath(id, "/log"), after)
}

func jobPath(id jobs.ID, what string) string { return "/v1/jobs/" + url.PathEscape(string(id)) + what }

// ask makes a request until it is answered by more than that it may be made again.
func (c *Client) ask(ctx context.Context, method, path string, body []byte, v any) error {
	for try := 1; ; try++ {
		err := c.askOnce(ctx, method, path, body, v)
		if err == nil || !errdefs.IsUnavailable(err) || try == askTries {
			return err
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return err
		}
	}
}

func (c *Client) askOnce(ctx context.Context, method, path string, body []byte, v any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := c.do(ctx, method, path, body, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("%s%s: %w", c.URL, path, err)
	}
	return nil
}

// maxAnswer is above the largest job with its result.
const maxAnswer = 4 << 20

// do makes one request. What is no 2xx is an error of the kind that the answer tells; no
// answer at all is errdefs.ErrUnavailable.
func (c *Client) do(ctx context.Context, method, path string, body []byte, after uint64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	token, err := c.Token(ctx)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if after > 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatUint(after, 10))
	}
	client := c.HTTP
	if client == nil {
		client = noRedirects
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	e := Error{Message: resp.Status}
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&e) // a proxy's answer is none
	if e.Kind == "" && resp.StatusCode >= 500 {
		e.Kind = jobs.KindUnavailable
	}
	return nil, &jobs.Failure{Kind: e.Kind, Message: fmt.Sprintf("%s%s: %s", c.URL, path, e.Message)}
}

var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// errInterrupted is of a stream that broke off.
var errInterrupted = fmt.Errorf("stream interrupted: %w", errdefs.ErrUnavailable)

// follow reads a stream to its end, and goes on where it broke off.
func follow[T any](ctx context.Context, c *Client, path string, after uint64) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for failures := 0; ; failures++ {
			was := after
			err := readStream(ctx, c, path, &after, yield)
			if after != was {
				failures = 0
			}
			if err == nil || errors.Is(err, errLeft) {
				return
			}
			if !errdefs.IsUnavailable(err) || ctx.Err() != nil || failures == streamTries {
				yield(*new(T), err)
				return
			}
			select {
			case <-time.After(streamAgain):
			case <-ctx.Done():
			}
		}
	}
}

var errLeft = errors.New("loop left")

func readStream[T any](ctx context.Context, c *Client, path string, after *uint64, yield func(T, error) bool) error {
	resp, err := c.do(ctx, http.MethodGet, path, nil, *after)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxAnswer)
	kind, number, data := "", *after, ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			kind = value
		case "id":
			if number, err = strconv.ParseUint(value, 10, 64); err != nil {
				return fmt.Errorf("%s%s: %w", c.URL, path, err)
			}
		case "data":
			data = value
		case "":
			if data == "" {
				continue
			}
			if kind == endEvent {
				return endOf(data)
			}
			var v T
			if err := json.Unmarshal([]byte(data), &v); err != nil {
				return fmt.Errorf("%s%s: %w", c.URL, path, err)
			}
			if *after = number; !yield(v, nil) {
				return errLeft
			}
			kind, data = "", ""
		}
	}
	return errInterrupted
}

// endOf is why a stream has ended.
func endOf(data string) error {
	var e Error
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return err
	}
	if e.Message == "" {
		return nil
	}
	return &jobs.Failure{Kind: e.Kind, Message: e.Message}
}
