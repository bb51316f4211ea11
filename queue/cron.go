package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

// Cron is a job that the pool submits by a timetable. The server keeps the time
// (its message schedules), a scheduler submits what fires.
type Cron struct {
	Name string `json:"name"` // of letters, digits, - and _
	// Schedule has five fields as in crontab(5), six with seconds first, or is @hourly,
	// @daily, @weekly, @monthly, @yearly or @every and a duration of a second or more.
	Schedule string        `json:"schedule"`
	TimeZone string        `json:"time_zone,omitempty"` // IANA name; default UTC; not for @every
	Job      jobs.Template `json:"job"`
}

// CronStatus is a Cron and how far it is.
type CronStatus struct {
	Cron
	Last *Fired    `json:"last,omitempty"`
	Next time.Time `json:"next,omitzero"` // as of the last fire; zero before the first
}

// Fired is one fire of a Cron.
type Fired struct {
	Time time.Time `json:"time"`
	Job  jobs.ID   `json:"job"`
}

const (
	schedPrefix = "sched.cron."
	firePrefix  = "fire.cron."
	// fireConsumer is durable: what fires while no scheduler runs is not forgotten.
	fireConsumer = "cron"
	// fireWait is far longer than a scheduler takes, or another to take over from it.
	fireWait = 10 * time.Second
	// fireRetry is the pause before a fire whose job was not accepted.
	fireRetry = 5 * time.Second
)

var cronName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// SetCron makes a timetable or replaces the one of its name. A bad name, schedule or
// time zone is errdefs.ErrInvalidArgument.
func (c *Client) SetCron(ctx context.Context, cr Cron) error {
	if !cronName.MatchString(cr.Name) {
		return fmt.Errorf("cron %q: a name has 1 to 64 letters, digits, - and _: %w", cr.Name, errdefs.ErrInvalidArgument)
	}
	b, err := json.Marshal(cr)
	if err != nil {
		return err
	}
	opts := []jetstream.PublishOpt{jetstream.WithScheduleCron(withSeconds(cr.Schedule)), jetstream.WithScheduleTarget(firePrefix + cr.Name)}
	if cr.TimeZone != "" {
		opts = append(opts, jetstream.WithScheduleTimeZone(cr.TimeZone))
	}
	_, err = c.js.Publish(ctx, schedPrefix+cr.Name, b, opts...)
	switch {
	case apiCode(err) == jetstream.JSErrCodeSchedulePatternInvalid, errors.Is(err, jetstream.ErrInvalidOption):
		return fmt.Errorf("cron %s: the server takes no schedule %q in time zone %q: %w", cr.Name, cr.Schedule, cmp.Or(cr.TimeZone, "UTC"), errdefs.ErrInvalidArgument)
	case apiCode(err) == codeTimeZone:
		return fmt.Errorf("cron %s: the server knows no time zone %q: %w", cr.Name, cr.TimeZone, errdefs.ErrInvalidArgument)
	case err != nil:
		return fmt.Errorf("cron %s: %w", cr.Name, refused(err))
	}
	return nil
}

// withSeconds makes the server's six fields of crontab's five.
func withSeconds(schedule string) string {
	if f := strings.Fields(schedule); len(f) == 5 {
		return "0 " + strings.Join(f, " ")
	}
	return schedule
}

// Crons lists the timetables by name.
func (c *Client) Crons(ctx context.Context) ([]CronStatus, error) {
	subjects, err := c.subjects(ctx, streamSched, schedPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("list crons: %w", err)
	}
	slices.Sort(subjects)
	all := []CronStatus{}
	for part := range slices.Chunk(subjects, listBatch/2) {
		ask := slices.Clone(part)
		for _, s := range part {
			ask = append(ask, firePrefix+strings.TrimPrefix(s, schedPrefix))
		}
		msgs, err := c.last(ctx, streamSched, ask...)
		if err != nil {
			return nil, fmt.Errorf("list crons: %w", err)
		}
		for _, s := range part {
			if m := msgs[s]; m != nil { // else it was removed just now
				st, err := cronStatus(m, msgs[firePrefix+strings.TrimPrefix(s, schedPrefix)])
				if err != nil {
					return nil, fmt.Errorf("list crons: %s: %w", s, err)
				}
				all = append(all, st)
			}
		}
	}
	return all, nil
}

func cronStatus(m, fire *jetstream.RawStreamMsg) (st CronStatus, err error) {
	if err := json.Unmarshal(m.Data, &st.Cron); err != nil || fire == nil {
		return st, err
	}
	j, err := fireJob(fire.Data, fire.Time)
	if err != nil {
		return st, err
	}
	st.Last = &Fired{Time: fire.Time, Job: j.ID}
	st.Next, _ = time.Parse(time.RFC3339Nano, fire.Header.Get("Nats-Schedule-Next")) // one that was fired by hand says nothing
	return st, nil
}

// FireCron fires a timetable now, beside its schedule, and names the job. It is there
// once a scheduler has submitted it: see AwaitJob.
func (c *Client) FireCron(ctx context.Context, name string) (jobs.ID, error) {
	fail := func(err error) (jobs.ID, error) { return "", fmt.Errorf("cron %s: %w", name, err) }
	msgs, err := c.last(ctx, streamSched, schedPrefix+name)
	if err != nil {
		return fail(err)
	}
	m := msgs[schedPrefix+name]
	if m == nil {
		return fail(errdefs.ErrNotFound)
	}
	ack, err := c.js.Publish(ctx, firePrefix+name, m.Data)
	if err != nil {
		return fail(err)
	}
	s, err := c.js.Stream(ctx, streamSched)
	if err != nil {
		return fail(err)
	}
	fire, err := s.GetMsg(ctx, ack.Sequence)
	if err != nil { // it fired again meanwhile
		return fail(err)
	}
	j, err := fireJob(fire.Data, fire.Time)
	if err != nil {
		return fail(err)
	}
	return j.ID, nil
}

// AwaitJob returns once a job is there that was fired. If no scheduler has submitted
// it in 10 s that is errdefs.ErrUnavailable, and the next one to run does.
func (c *Client) AwaitJob(ctx context.Context, id jobs.ID) error {
	wait, cancel := context.WithTimeout(ctx, fireWait)
	defer cancel()
	for _, err := range c.changes(wait, id) {
		if wait.Err() != nil && ctx.Err() == nil {
			break
		}
		return err
	}
	return fmt.Errorf("job %s has been fired and waits for a scheduler to submit it: %w", id, errdefs.ErrUnavailable)
}

// RemoveCron ends a timetable. What it has fired goes on.
func (c *Client) RemoveCron(ctx context.Context, name string) error {
	msgs, err := c.last(ctx, streamSched, schedPrefix+name)
	if err == nil && msgs[schedPrefix+name] == nil {
		err = errdefs.ErrNotFound
	}
	var s jetstream.Stream
	if err == nil {
		s, err = c.js.Stream(ctx, streamSched)
	}
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(schedPrefix+name))
	}
	if err != nil {
		return fmt.Errorf("cron %s: %w", name, err)
	}
	return nil
}

// fireJob makes the job of a fire. Its ID is of the timetable's name and the time,
// so a fire that is delivered twice is one job.
func fireJob(body []byte, at time.Time) (jobs.Job, error) {
	var cr Cron
	if err := json.Unmarshal(body, &cr); err != nil {
		return jobs.Job{}, fmt.Errorf("decode cron: %w", err)
	}
	return cr.Job.Job("cron " + cr.Name + " " + at.UTC().Format(time.RFC3339Nano))
}

// ServeCrons submits the jobs of timetables that fire, until ctx is done. Several
// schedulers may: each fire goes to one of them. Of the fires that nobody was there
// for, the last of each timetable is caught up with.
func (c *Client) ServeCrons(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := c.serveCrons(ctx); err != nil && ctx.Err() == nil {
			c.log.Debug("timetables interrupted", "error", err)
			c.pause(ctx)
		}
	}
	return ctx.Err()
}

func (c *Client) serveCrons(ctx context.Context) error {
	cons, err := c.js.CreateOrUpdateConsumer(ctx, streamSched, jetstream.ConsumerConfig{
		Durable: fireConsumer, FilterSubject: firePrefix + "*", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 2 * submitWait, MaxDeliver: -1})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		m, err := cons.Next(jetstream.FetchContext(ctx))
		if errors.Is(err, nats.ErrTimeout) {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.fire(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// fire submits the job of one fire and answers for it.
func (c *Client) fire(ctx context.Context, m jetstream.Msg) error {
	name := strings.TrimPrefix(m.Subject(), firePrefix)
	md, err := m.Metadata()
	if err != nil {
		return err
	}
	j, err := fireJob(m.Data(), md.Timestamp)
	if err != nil {
		c.log.Error("timetable cannot be read", "cron", name, "error", err)
		return m.TermWithReason(err.Error())
	}
	st, err := c.Get(ctx, j.ID)
	if err == nil { // it was submitted, and the answer was lost: if it has ended, it is not to be opened again
		return m.Ack()
	}
	if errdefs.IsNotFound(err) {
		st, err = c.Submit(ctx, j)
	}
	if err != nil {
		c.log.Warn("timetable's job not submitted", "cron", name, "error", err)
		return m.NakWithDelay(fireRetry)
	}
	c.log.Info("timetable fired", "cron", name, "id", st.ID)
	return m.Ack()
}
