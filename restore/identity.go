package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
)

// Where a restored container finds who it is. Memory has the environment of the first one,
// and CRIU insists on the mounts of the dump: so these are files, written once the
// processes run and before they are told. In containerd's default spec /run is a tmpfs.
const (
	identityFile = "run/lithify/clone" // lines as of a file of environment variables
	envFile      = "run/lithify/env"   // likewise, of Options.Env
	secretsDir   = "run/lithify/secrets"
)

// maxSecret is what BuildKit takes of one, too.
const maxSecret = 500 << 10

// Secret is a file of this machine's that a restored container gets a copy of, as
// /run/lithify/secrets/ID, for its first process's user alone to read.
type Secret struct{ ID, File string }

// secretID has no slash and is no dot.
var secretID = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// clone is a line of the file, and nothing in it begins another.
var clone = regexp.MustCompile(`^[1-9][0-9]*/[1-9][0-9]*$`)

// secret is one that has been read.
type secret struct {
	id    string
	value []byte
}

// readSecrets reads them before anything is made.
func readSecrets(all []Secret) (read []secret, err error) {
	for _, s := range all {
		value, err := readSecret(s.File)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", s.ID, err)
		}
		read = append(read, secret{s.ID, value})
	}
	return read, nil
}

func readSecret(file string) (_ []byte, err error) {
	info, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // the opening of a pipe waits
		return nil, fmt.Errorf("%s is no file: %w", file, errdefs.ErrInvalidArgument)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(raw) > maxSecret {
		err = fmt.Errorf("%s has more than %d bytes: %w", file, maxSecret, errdefs.ErrInvalidArgument)
	}
	return raw, err
}

// identity is what tells clones apart.
func (r *run) identity() []string {
	all := []string{"LITHIFY_NAME=" + r.opts.Name, "LITHIFY_CHECKPOINT=" + r.img.Descriptor.Digest.String()}
	if r.opts.Clone != "" {
		all = append(all, "LITHIFY_CLONE="+r.opts.Clone)
	}
	return all
}

// identify gives the container of p its network, its hostname and its files.
func (r *run) identify(p *held) error {
	if r.opts.Network == NoNetwork {
		if err := loopback(p); err != nil {
			return err
		}
	}
	if err := rename(p, r.opts.Hostname); err != nil {
		return err
	}
	lines := func(vars []string) []byte { return []byte(strings.Join(vars, "\n") + "\n") }
	files := []file{{identityFile, 0o644, 0, 0, lines(r.identity())}}
	if len(r.opts.Env) > 0 {
		files = append(files, file{envFile, 0o644, 0, 0, lines(r.opts.Env)})
	}
	uid, gid, err := p.owner()
	if err != nil {
		return err
	}
	for _, s := range r.secrets {
		files = append(files, file{path.Join(secretsDir, s.id), 0o400, uid, gid, s.value})
	}
	return p.write(files)
}

// held is a process that is not taken for another one that got its number once it was
// gone: what is asked of its directory in /proc fails then.
type held struct{ proc *os.File }

// hold takes hold of a task's first process, which has to run.
func hold(ctx context.Context, task client.Task) (*held, error) {
	proc, err := os.Open(fmt.Sprintf("/proc/%d", task.Pid()))
	if err != nil {
		return nil, fmt.Errorf("first process: %w", err)
	}
	// One that runs now ran all the time, and so it is the one that was opened.
	status, err := task.Status(ctx)
	if err == nil && status.Status != client.Running {
		err = fmt.Errorf("the first process is %s: %w", status.Status, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, errors.Join(err, proc.Close())
	}
	return &held{proc}, nil
}

func (p *held) Close() error { return p.proc.Close() }

// path names something in the process's directory.
func (p *held) path(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", p.proc.Fd(), name)
}

// checkIdentity refuses what cannot be written.
func (o Options) checkIdentity() error {
	if o.Clone != "" && !clone.MatchString(o.Clone) {
		return fmt.Errorf("clone %q: want I/N: %w", o.Clone, errdefs.ErrInvalidArgument)
	}
	for i, v := range o.Env {
		if strings.Index(v, "=") < 1 || strings.ContainsAny(v, "\n\x00") { // what it is, is not told
			return fmt.Errorf("variable %d: want NAME=VALUE in one line: %w", i+1, errdefs.ErrInvalidArgument)
		}
	}
	for i, s := range o.Secrets {
		if !secretID.MatchString(s.ID) {
			return fmt.Errorf("secret %q: an ID is made of letters, digits, and any of _.-: %w", s.ID, errdefs.ErrInvalidArgument)
		}
		if slices.ContainsFunc(o.Secrets[:i], func(other Secret) bool { return other.ID == s.ID }) {
			return fmt.Errorf("secret %s is given twice: %w", s.ID, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
