// Package preflight finds out what this host can do: it tries each thing, small and in
// a directory of its own, and looks at no version where it can try.
//
//	facts := preflight.Check(ctx, preflight.Options{})
//	if err := preflight.Ready(facts, "convert"); err != nil {
//		...
//	}
package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// Options of Check; the zero value works.
type Options struct {
	// Dir is where is tried what depends on the file system; default $TMPDIR.
	Dir string
	// Containerd is where a containerd may listen; with none nobody is asked.
	Containerd string
	// Config is that containerd's configuration; default what it says itself.
	Config string
	// CNIConf and CNIBins are where networks are configured and their plugins are; with none
	// they are not looked for.
	CNIConf string
	CNIBins []string
}

// Fact is one thing that this host can do, or cannot.
type Fact struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Found is what there is, as a version, or why there is nothing.
	Found string `json:"found"`
	// For says what it is good for.
	For string `json:"for"`
	// Required are the verbs of lithify that do not work without.
	Required []string `json:"required_by,omitempty"`
	// Do says how to get it, if it is missing.
	Do string `json:"do,omitempty"`
}

// probe is how a fact is found out.
type probe struct {
	name, use, remedy string
	required          []string
	try               func(context.Context, Options) (found string, err error)
}

// probeTimeout bounds one probe: a program or a daemon may hang.
const probeTimeout = 10 * time.Second

// Check tries everything, side by side. Facts come in an order that does not change.
func Check(ctx context.Context, o Options) []Fact {
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	all := slices.Concat(everywhere, here)
	if o = o.withConfig(ctx); o.Config != "" {
		all = append(all, config)
	}
	if o.CNIConf != "" && cni.try != nil {
		all = append(all, cni)
	}
	near := slices.Concat(daemon, nearDaemon)
	if o.Containerd != "" {
		all = append(all, near...)
	}
	facts := make([]Fact, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			facts[i] = p.fact(ctx, o)
		})
	}
	wg.Wait()
	if o.Containerd == "" {
		return facts
	}
	if first := len(facts) - len(near); !facts[first].OK {
		return facts[:first+1] // one that does not answer says nothing of itself
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return slices.Concat(facts, pluginFacts(ctx, o), runtimeFacts(ctx, o))
}

func (p probe) fact(ctx context.Context, o Options) Fact {
	f := Fact{Name: p.name, OK: true, For: p.use, Required: p.required}
	var err error
	if f.Found, err = p.try(ctx, o); err != nil {
		f.OK, f.Found, f.Do = false, err.Error(), p.remedy
		if errors.Is(err, fs.ErrPermission) {
			f.Do = privileged
		}
	}
	return f
}

// Verbs are what Ready can be asked of.
func Verbs() []string {
	verbs := []string{}
	for _, p := range slices.Concat(everywhere, here, daemon) {
		verbs = append(verbs, p.required...)
	}
	slices.Sort(verbs)
	return slices.Compact(verbs)
}

// Ready is nil if all is there that the verb requires, else an
// errdefs.ErrFailedPrecondition that says what is not.
func Ready(facts []Fact, verb string) error {
	var missing []string
	for _, f := range facts {
		if !f.OK && slices.Contains(f.Required, verb) {
			missing = append(missing, f.Name+" ("+f.Found+")")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%s needs what is missing here: %s: %w", verb, strings.Join(missing, ", "), errdefs.ErrFailedPrecondition)
}

// Names are the names of the facts that are ok, or of the others.
func Names(facts []Fact, ok bool) []string {
	names := []string{}
	for _, f := range facts {
		if f.OK == ok {
			names = append(names, f.Name)
		}
	}
	return names
}

// Log checks, and says in one line what there is; what is missing it explains to
// developers.
func Log(ctx context.Context, log *slog.Logger, o Options) {
	facts := Check(ctx, o)
	log.InfoContext(ctx, "host checked", "ok", Names(facts, true), "missing", Names(facts, false))
	for _, f := range facts {
		log.DebugContext(ctx, "host", "name", f.Name, "ok", f.OK, "found", f.Found, "do", f.Do)
	}
}

// everywhere are the probes of every system.
var everywhere = []probe{{
	name: "temp", use: "layers lie there until they are pushed", required: []string{"convert", "commit", "build", "verify"},
	remedy: "name another directory, by $TMPDIR or --temp-dir", try: tryTemp,
}}

// tryTemp writes a file.
func tryTemp(_ context.Context, o Options) (found string, err error) {
	f, err := os.CreateTemp(o.Dir, probeName)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(make([]byte, 1<<16)); err != nil {
		return "", err
	}
	return o.Dir, nil
}

// probeName is the beginning of the names of what a probe makes.
const probeName = "lithify-probe-"

// word is what a file says that is written to be read.
const word = "lithify"

func reads(name string) error {
	got, err := os.ReadFile(name)
	if err == nil && string(got) != word {
		err = fmt.Errorf("%s reads %q, want %q", name, got, word)
	}
	return err
}

// within gives try a directory of its own in dir.
func within(dir string, try func(at string) error) (err error) {
	at, err := os.MkdirTemp(dir, probeName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(at)) }()
	return try(at)
}

// firstLine runs a program and gives the first line that it prints.
func firstLine(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, line)
	}
	return line, err
}

// versionNumber is what most programs print, among other things.
var versionNumber = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

func versionOf(ctx context.Context, program string) (string, error) {
	line, err := firstLine(ctx, program, "--version")
	return cmp.Or(versionNumber.FindString(line), line), err
}

// because says of what the kernel answers what it means here.
func because(err error, meaning map[syscall.Errno]string) error {
	for errno, what := range meaning {
		if errors.Is(err, errno) {
			return fmt.Errorf("%s: %w", what, errno)
		}
	}
	return err
}
