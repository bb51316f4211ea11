// Package auth makes what a pool needs whose members do not trust each other:
// certificates, a key for each part, and the configuration of its NATS servers, in
// which workers have accounts of their own. Everything is a file in one directory.
package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nkeys"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// Config says for which pool.
type Config struct {
	Dir     string   // must not exist, or be empty
	Hosts   []string // names and addresses of the one server
	Cluster []string // else the names of its servers: three, or five
	Workers []Worker
	Store   string // directory of the servers' data

	// TLSCert, TLSKey and TLSCA are files of one's own; without them Init makes a CA
	// and signs a certificate for each server.
	TLSCert, TLSKey, TLSCA string
}

// Worker is one or more workers with a key and an account of their own.
type Worker struct {
	Name    string
	Classes []jobs.Class
	Submits []string // kinds of jobs that theirs wait for
}

// File is one that Init made, or uses.
type File struct{ Path, For string }

// Result is what Init made.
type Result struct {
	Files   []File
	Servers []string // their configuration files
	CA      string
}

// Path is a file in the pool's directory.
func (c Config) Path(name string) string { return filepath.Join(c.Dir, name) }

// Files of a pool, within its directory.
const (
	SchedulerKey = "scheduler.nk"
	ClientKey    = "client.nk"
	PublicKeys   = "keys.json"
)

// WorkerKey is the file of a worker's key.
func WorkerKey(name string) string { return "worker-" + name + ".nk" }

var (
	hostName   = regexp.MustCompile(`^[A-Za-z0-9.:_-]{1,253}$`) // a name or an address
	workerName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)    // a part of a subject
)

func (c Config) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	for _, h := range append(slices.Clone(c.Hosts), c.Cluster...) {
		if !hostName.MatchString(h) {
			return bad("%q is no name or address of a host", h)
		}
	}
	seen := map[string]bool{}
	for _, w := range c.Workers {
		if !workerName.MatchString(w.Name) {
			return bad("worker %q: a name has 1 to 32 letters, digits, - and _", w.Name)
		}
		if seen[w.Name] {
			return bad("two workers are named %s", w.Name)
		}
		seen[w.Name] = true
	}
	own := 0
	for _, f := range []string{c.TLSCert, c.TLSKey, c.TLSCA} {
		if f != "" {
			own++
		}
	}
	switch n := len(c.Cluster); {
	case n > 0 && len(c.Hosts) > 0:
		return bad("either one server or a cluster")
	case n == 0 && len(c.Hosts) == 0:
		return bad("no server")
	case n > 0 && (n < 3 || n%2 == 0):
		return bad("a cluster has three servers, or five: %d cannot outvote those that are lost", n)
	case len(c.Workers) == 0:
		return bad("no worker")
	case own != 0 && own != 3:
		return bad("a TLS certificate of one's own, its key and its CA go together")
	}
	return nil
}

// Init writes the files. It refuses a directory that holds anything
// (errdefs.ErrAlreadyExists): keys that are in use are not replaced by accident.
func Init(c Config) (Result, error) {
	var err error
	if err := c.check(); err != nil {
		return Result{}, err
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return Result{}, err
	}
	there, err := os.ReadDir(c.Dir)
	if err != nil {
		return Result{}, err
	}
	if len(there) > 0 {
		return Result{}, fmt.Errorf("%s holds %s: keys are not written over, give another directory: %w", c.Dir, there[0].Name(), errdefs.ErrAlreadyExists)
	}
	w := writer{c: c}
	w.run()
	return w.made, w.err
}

// writer writes files until one fails.
type writer struct {
	c    Config
	made Result
	err  error
}

func (w *writer) run() {
	certs := w.certificates()
	users := w.keys()
	if w.err != nil {
		return
	}
	if len(w.c.Cluster) == 0 {
		w.server("nats.conf", "configuration of the NATS server", w.c.config(certs[0], users, nil))
		return
	}
	r := &routes{password: randomPassword()}
	for i, host := range w.c.Cluster {
		r.self = host
		w.server("nats-"+host+".conf", "configuration of the NATS server on "+host, w.c.config(certs[i], users, r))
	}
}

func (w *writer) server(name, purpose, text string) {
	w.file(name, purpose, []byte(text), 0o600) // the public keys tell who may; a cluster's has a password
	w.made.Servers = append(w.made.Servers, w.c.Path(name))
}

func (w *writer) file(name, purpose string, data []byte, mode fs.FileMode) {
	if w.err != nil {
		return
	}
	f, err := os.OpenFile(w.c.Path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		w.err = err
		return
	}
	_, err = f.Write(data)
	w.err = errors.Join(err, f.Sync(), f.Close())
	w.made.Files = append(w.made.Files, File{w.c.Path(name), purpose})
}

// users are public keys.
type users struct {
	scheduler, client string
	workers           []string
}

func (w *writer) keys() (u users) {
	u.scheduler = w.key(SchedulerKey, "the scheduler's key: it logs in and signs what it admits")
	u.client = w.key(ClientKey, "the key of those who submit jobs and look at them")
	public := queue.Keys{Scheduler: u.scheduler}
	for _, wk := range w.c.Workers {
		k := w.key(WorkerKey(wk.Name), "the key of worker "+wk.Name+": it logs in and signs its results")
		u.workers = append(u.workers, k)
		public.Workers = append(public.Workers, queue.WorkerKey{Account: wk.Name, Key: k, Classes: wk.Classes})
	}
	if w.err == nil {
		w.err = public.WriteFile(w.c.Path(PublicKeys))
		w.made.Files = append(w.made.Files, File{w.c.Path(PublicKeys), "the public keys, for everybody: whose signatures count"})
	}
	return u
}

// key makes a key, writes its seed, and gives its public half.
func (w *writer) key(name, purpose string) string {
	pair, err := nkeys.CreateUser()
	if err != nil {
		w.err = err
		return ""
	}
	seed, serr := pair.Seed()
	public, perr := pair.PublicKey()
	if w.err = errors.Join(w.err, serr, perr); w.err == nil {
		w.file(name, purpose, append(seed, '\n'), 0o600)
	}
	return public
}
