package bench

import (
	"fmt"
	"runtime"
	"time"
)

// Phase is a part of a report; its text is for people.
type Phase interface{ String() string }

// Report is all that was measured.
type Report struct {
	Machine  Machine  `json:"machine"`
	Dispatch Dispatch `json:"dispatch"`
	Drain    Drain    `json:"drain"`
	Restart  Restart  `json:"restart"`
	Death    Death    `json:"death"`
	FanOut   FanOut   `json:"fan_out,omitzero"` // with Config.FanOut, and nothing else then,
	Cancel   Cancel   `json:"cancel,omitzero"`  // but this with Config.Cancel
}

// Machine is where it was measured.
type Machine struct {
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	CPUs     int    `json:"cpus"`
	Embedded bool   `json:"embedded"` // server in the same process, every write synced
	Dir      string `json:"dir,omitempty"`
}

func machine(cfg Config) Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0), Embedded: cfg.Server == nil, Dir: cfg.Dir}
}

func (m Machine) String() string {
	where := "a server of yours, with the durability it is set to"
	if m.Embedded {
		where = "an embedded server that syncs every write, in " + m.Dir
	}
	return fmt.Sprintf("machine   %s/%s, %d CPUs for submitter, server, scheduler and worker; %s", m.OS, m.Arch, m.CPUs, where)
}

// Spread is a distribution of times.
type Spread struct {
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	Max time.Duration `json:"max_ns"`
}

func (s Spread) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, max %v", s.P50.Round(time.Microsecond), s.P99.Round(time.Microsecond), s.Max.Round(time.Microsecond))
}

// Dispatch is the latency of a job while workers are idle.
type Dispatch struct {
	Jobs     int    `json:"jobs"`
	Rate     int    `json:"rate"`      // jobs a second
	FromAck  Spread `json:"from_ack"`  // from the submission's answer to the handler's start
	FromCall Spread `json:"from_call"` // from the call to submit on: with its sync
	Syncs    Spread `json:"syncs"`     // two writes to this disk, each synced, beside the jobs; zero: another's server
}

func (d Dispatch) String() string {
	text := fmt.Sprintf("dispatch  %d jobs at %d/s to idle workers: submitted to started %v; call to started %v", d.Jobs, d.Rate, d.FromAck, d.FromCall)
	if d.Syncs.P50 == 0 || d.Syncs.P99 == 0 {
		return text
	}
	return text + fmt.Sprintf("\n          its message and its claim are two syncs; two writes to this disk beside it: %v; ratio %.2f at p50, %.2f at p99",
		d.Syncs, ratio(d.FromAck.P50, d.Syncs.P50), ratio(d.FromAck.P99, d.Syncs.P99))
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// Drain is the throughput of jobs that do nothing.
type Drain struct {
	Jobs          int     `json:"jobs"`
	Slots         int     `json:"slots"`
	Inserted      float64 `json:"inserted_per_second"`
	Drained       float64 `json:"drained_per_second"`
	WorkDepth     uint64  `json:"work_depth"`           // most messages in WORK at a time
	SchedulerHeap int64   `json:"scheduler_heap_bytes"` // that all queued jobs take in the scheduler
	RSS           int64   `json:"rss_bytes,omitempty"`  // of this process, server and all, at the end
}

// riverNote names what the other figure is, because it is no race of equals.
const riverNote = `          River's "river bench" is published with 46,000 jobs/s by the same method: on a MacBook Air M2 (8 cores) with 2,000 goroutines,
          Postgres fetching and completing jobs by groups. Here each job's claim and each job's result is a compare-and-set that is on the
          disk before the worker goes on.`

func (d Drain) String() string {
	return fmt.Sprintf("drain     %d jobs: %.0f/s queued, then %.0f/s drained by %d slots; at most %d messages in WORK; scheduler %.0f MiB for %d queued jobs, process %.0f MiB\n%s",
		d.Jobs, d.Inserted, d.Drained, d.Slots, d.WorkDepth, mib(d.SchedulerHeap), d.Jobs, mib(d.RSS), riverNote)
}

func mib(b int64) float64 { return float64(b) / (1 << 20) }

// Restart is how soon a pool is back, from the start of the server on.
type Restart struct {
	Records    int           `json:"records"`
	Queued     int           `json:"queued"`        // of them; the others are done
	Answers    time.Duration `json:"answers_ns"`    // the server does
	Read       time.Duration `json:"read_ns"`       // the scheduler has every record
	Dispatched time.Duration `json:"dispatched_ns"` // the first job has started
}

func (r Restart) String() string {
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("restart   with %d records, %d of them queued: server answers after %v, scheduler has read all after %v, next job started after %v",
		r.Records, r.Queued, ms(r.Answers), ms(r.Read), ms(r.Dispatched))
}

// Death is how soon another worker has the job of one that is gone.
type Death struct {
	AckWait   time.Duration `json:"ack_wait_ns"`
	Recovered time.Duration `json:"recovered_ns"` // from the cut to the start of the next attempt
}

func (d Death) String() string {
	return fmt.Sprintf("death     of a worker in mid-job: another one has the job after %v, with an ack wait of %v", d.Recovered.Round(time.Millisecond), d.AckWait)
}

// FanOut is one job that waits for parts, these for images, and these for layers that
// they share.
type FanOut struct {
	Parts         int           `json:"parts"`
	Images        int           `json:"images"`
	Layers        int           `json:"layers"`
	Slots         int           `json:"slots"`
	Took          time.Duration `json:"took_ns"`              // from the submission to the end of the root
	WorkDepth     uint64        `json:"work_depth"`           // most messages in WORK at a time
	SchedulerHeap int64         `json:"scheduler_heap_bytes"` // most that it held
	RSS           int64         `json:"rss_bytes,omitempty"`  // most that this process took: server, scheduler and worker
}

// Jobs is how many there are.
func (f FanOut) Jobs() int { return 1 + f.Parts + f.Images + f.Layers }

func (f FanOut) String() string {
	return fmt.Sprintf("fan-out   of 1 job to %d parts, %d images and %d layers, each in %d images: %v with %d slots, %.0f jobs/s; each layer ran once; at most %d messages in WORK; scheduler's heap %.0f MiB, process %.0f MiB",
		f.Parts, f.Images, f.Layers, imagesOfLayer, f.Took.Round(time.Millisecond), f.Slots, perSecond(f.Jobs(), f.Took), f.WorkDepth, mib(f.SchedulerHeap), mib(f.RSS))
}

// Cancel is a fan-out whose first job is cancelled when half of the layers ran.
type Cancel struct {
	Layers      int           `json:"layers"`
	Ran         int           `json:"ran"`          // of them
	Cancelled   int           `json:"cancelled"`    // jobs
	Took        time.Duration `json:"took_ns"`      // from the call until no job is open
	Explained   time.Duration `json:"explained_ns"` // the longest that an explanation took meanwhile
	Unexplained int           `json:"unexplained"`  // questions that the scheduler left unanswered
}

func (c Cancel) String() string {
	return fmt.Sprintf("cancel    of a fan-out to %d layers when %d had run: %d jobs cancelled after %v; meanwhile jobs were explained within %v, and %d questions not answered",
		c.Layers, c.Ran, c.Cancelled, c.Took.Round(time.Millisecond), c.Explained.Round(time.Millisecond), c.Unexplained)
}
