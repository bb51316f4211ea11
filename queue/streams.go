package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamWork   = "WORK"
	streamState  = "STATE"
	streamEvents = "EVENTS"
	streamLogs   = "LOGS"
	streamDead   = "DLQ"
	streamSched  = "SCHED"
	bucketNodes  = "nodes"
)

// StreamWork is the name of the stream whose consumers feed the workers.
const StreamWork = streamWork

const (
	// apiLevel is the first with atomic batches and per-message TTL together:
	// nats-server 2.14.
	apiLevel = 4
	// maxConsumers: the server's default of 1000 would bound nodes and watchers.
	maxConsumers = 20_000
	// eventsPerJob and logPartsPerJob bound what is kept of one job, the latest.
	eventsPerJob   = 1000
	logPartsPerJob = 20_000
	eventsAge      = 7 * 24 * time.Hour
	deadAge        = 90 * 24 * time.Hour
	// Admission bounds WORK to windows of small messages; hitting this is a bug,
	// and DiscardNew makes it an error and no loss.
	workBytes   = 1 << 30
	eventsBytes = 4 << 30
	logsBytes   = 4 << 30
	// setupWait bounds the wait for a server whose JetStream is still starting.
	setupWait = 30 * time.Second
)

func streamConfigs(replicas int) []jetstream.StreamConfig {
	// History and logs are for people: a power cut may take their last seconds, and no
	// job waits for a sync. On a cluster the replicas hold it.
	history := jetstream.AsyncPersistMode
	if replicas > 1 {
		history = jetstream.DefaultPersistMode
	}
	return []jetstream.StreamConfig{{
		Name: streamWork, Subjects: []string{"w.>"}, Retention: jetstream.WorkQueuePolicy, Replicas: replicas,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, // a second message of one job is refused
		AllowAtomicPublish: true, MaxConsumers: maxConsumers, MaxBytes: workBytes,
	}, {
		Name: streamEvents, Subjects: []string{"ev.>"}, Replicas: replicas, MaxMsgsPerSubject: eventsPerJob, AllowDirect: true,
		MaxAge: eventsAge, MaxBytes: eventsBytes, MaxConsumers: maxConsumers, Compression: jetstream.S2Compression, PersistMode: history,
	}, {
		Name: streamLogs, Subjects: []string{"log.>"}, Replicas: replicas, MaxMsgsPerSubject: logPartsPerJob, AllowDirect: true,
		MaxAge: eventsAge, MaxBytes: logsBytes, MaxConsumers: maxConsumers, Compression: jetstream.S2Compression, PersistMode: history,
	}, {
		Name: streamDead, Subjects: []string{"dlq.>"}, Replicas: replicas, MaxMsgsPerSubject: 1, AllowDirect: true, MaxAge: deadAge,
	}, {
		// Of each timetable one message, and its last fire.
		Name: streamSched, Subjects: []string{"sched.>", "fire.>"}, Replicas: replicas, MaxMsgsPerSubject: 1, AllowDirect: true, AllowMsgSchedules: true,
	}, {
		// The last: once a job can be submitted, all is there.
		Name: streamState, Subjects: []string{"st.>"}, Replicas: replicas, MaxMsgsPerSubject: 1,
		AllowDirect: true, AllowAtomicPublish: true, AllowMsgTTL: true, MaxConsumers: maxConsumers,
	}}
}

// Setup creates what is missing of the streams and checks the rest. It is called
// by the scheduler, which alone needs the permission. A server that is too old
// and a stream that was changed so that the promises do not hold are
// errdefs.ErrFailedPrecondition.
func (c *Client) Setup(ctx context.Context, replicas int) error {
	ctx, cancel := context.WithTimeout(ctx, setupWait)
	defer cancel()
	replicas = max(replicas, 1)
	steps := []func(context.Context) error{c.checkServer}
	for _, want := range streamConfigs(replicas) {
		steps = append(steps, func(ctx context.Context) error { return c.setupStream(ctx, want) })
	}
	steps = append(steps,
		func(ctx context.Context) error { return c.setupNodes(ctx, replicas) },
		func(ctx context.Context) error { return c.setupControls(ctx, replicas) },
		func(ctx context.Context) error { return c.setupSchedulers(ctx, replicas) })
	for _, step := range steps {
		if err := c.retry(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) checkServer(ctx context.Context) error {
	acc, err := c.js.AccountInfo(ctx)
	if err != nil {
		return fmt.Errorf("ask the server for JetStream: %w", err)
	}
	if acc.API.Level < apiLevel {
		return fmt.Errorf("nats-server %s has JetStream API level %d, want %d (2.14 or later): %w",
			c.nc.ConnectedServerVersion(), acc.API.Level, apiLevel, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (c *Client) setupStream(ctx context.Context, want jetstream.StreamConfig) error {
	s, err := c.js.CreateStream(ctx, want)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		s, err = c.js.Stream(ctx, want.Name)
	}
	if err != nil {
		return fmt.Errorf("create stream %s: %w", want.Name, err)
	}
	if d := drift(s.CachedInfo().Config, want); d != "" {
		return fmt.Errorf("stream %s was changed: %s: %w", want.Name, d, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (c *Client) setupControls(ctx context.Context, replicas int) error {
	_, err := c.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucketControls, Replicas: replicas})
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
		return fmt.Errorf("create bucket %s: %w", bucketControls, err)
	}
	return nil
}

// SetupHistory makes EVENTS and LOGS again if they are gone. A power cut takes a young
// one as a whole: with its persist mode the server does not sync its configuration, either.
func (c *Client) SetupHistory(ctx context.Context, replicas int) error {
	for _, want := range streamConfigs(max(replicas, 1)) {
		if want.Name != streamEvents && want.Name != streamLogs {
			continue
		}
		_, err := c.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			c.log.Warn("history was lost and begins anew", "stream", want.Name)
			_, err = c.js.CreateStream(ctx, want)
		}
		if err != nil {
			return fmt.Errorf("create stream %s: %w", want.Name, err)
		}
	}
	return nil
}

// drift names what differs in the settings that the promises rest on. Sizes,
// ages and replicas are the operator's.
func drift(got, want jetstream.StreamConfig) string {
	var d []string
	diff := func(name string, same bool, g, w any) {
		if !same {
			d = append(d, fmt.Sprintf("%s is %v, want %v", name, g, w))
		}
	}
	diff("subjects", slices.Equal(got.Subjects, want.Subjects), got.Subjects, want.Subjects)
	diff("retention", got.Retention == want.Retention, got.Retention, want.Retention)
	diff("storage", got.Storage == want.Storage, got.Storage, want.Storage)
	diff("max_msgs_per_subject", got.MaxMsgsPerSubject == want.MaxMsgsPerSubject, got.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	diff("discard", got.Discard == want.Discard, got.Discard, want.Discard)
	diff("discard_new_per_subject", got.DiscardNewPerSubject == want.DiscardNewPerSubject, got.DiscardNewPerSubject, want.DiscardNewPerSubject)
	diff("allow_direct", got.AllowDirect == want.AllowDirect, got.AllowDirect, want.AllowDirect)
	diff("allow_msg_schedules", got.AllowMsgSchedules == want.AllowMsgSchedules, got.AllowMsgSchedules, want.AllowMsgSchedules)
	diff("allow_atomic", got.AllowAtomicPublish == want.AllowAtomicPublish, got.AllowAtomicPublish, want.AllowAtomicPublish)
	return strings.Join(d, ", ")
}

// retry calls f until it succeeds or fails for a reason that waiting does not
// mend: right after a start the API times out and answers 503, and a cluster's leader
// that dies answers no more. Each try is bounded.
func (c *Client) retry(ctx context.Context, f func(context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, callTimeout)
		err := f(try)
		cancel()
		if err == nil || errdefs.IsFailedPrecondition(err) || ctx.Err() != nil {
			return err
		}
		if e, ok := errors.AsType[*jetstream.APIError](err); ok && e.Code != 503 {
			return err
		}
		c.log.Debug("queue not ready", "error", err)
		if !c.pause(ctx) {
			return err
		}
	}
}

// pause waits a little; false if ctx ended meanwhile.
func (c *Client) pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(reconnectWait):
		return true
	}
}
