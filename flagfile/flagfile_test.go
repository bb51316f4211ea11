package flagfile

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/pflag"
)

// program has a flag of each kind.
type program struct {
	nats, kinds string
	slots       int
	grace       time.Duration
	verbose     bool
	from, keys  []string
}

func (p *program) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.StringVar(&p.nats, "nats", "default", "")
	fs.StringVar(&p.kinds, "kinds", "", "")
	fs.IntVar(&p.slots, "slots", 1, "")
	fs.DurationVar(&p.grace, "grace", time.Second, "")
	fs.BoolVar(&p.verbose, "verbose", false, "")
	fs.Func("restore-from", "", func(s string) error { p.from = append(p.from, strings.Split(s, ",")...); return nil })
	fs.Func("restore-key", "", func(s string) error { p.keys = append(p.keys, s); return nil })
	return fs
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "worker.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load is what a main does, with flags of either package.
func load(t *testing.T, pf bool, renames []renamed, args ...string) (p program, warnings []Warning, err error) {
	t.Helper()
	fs := p.flags()
	var f *File
	if pf {
		other := pflag.NewFlagSet("", pflag.ContinueOnError)
		other.AddGoFlagSet(fs)
		f = AddPFlag(other, "lithify-worker")
		if err := other.Parse(args); err != nil {
			t.Fatal(err)
		}
	} else {
		f = Add(fs, "lithify-worker")
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
	}
	f.renames = renames
	warnings, err = f.Load()
	return p, warnings, err
}

const whole = `# of the fleet
version: 1
nats: nats://one
slots: 4
grace: 1m
verbose: true
kinds: [build, convert]
restore-from: [r.example.com/web, "r.example.com/checkpoints/"]
restore-key:
- a.pem
- b.pem
`

func TestLoad(t *testing.T) {
	for _, pf := range []bool{false, true} {
		t.Run(fmt.Sprint("pflag ", pf), func(t *testing.T) {
			path := write(t, whole)
			p, warnings, err := load(t, pf, nil, "--config", path)
			want := program{"nats://one", "build,convert", 4, time.Minute, true, []string{"r.example.com/web", "r.example.com/checkpoints/"}, []string{"a.pem", "b.pem"}}
			if err != nil || len(warnings) > 0 || fmt.Sprint(p) != fmt.Sprint(want) {
				t.Errorf("from the file: got %v, %v, %v; want %v", p, warnings, err, want)
			}
			t.Setenv("LITHIFY_WORKER_SLOTS", "5")
			t.Setenv("LITHIFY_WORKER_NATS", "")
			t.Setenv("LITHIFY_KINDS", "of another program")
			t.Setenv("LITHIFY_WORKER_RESTORE_FROM", "variable")
			t.Setenv("LITHIFY_WORKER_CONFIG", path)
			p, _, err = load(t, pf, nil, "--restore-key", "c.pem", "--verbose=false", "--grace", "1s")
			want = program{"nats://one", "build,convert", 5, time.Second, false, []string{"variable"}, []string{"c.pem"}}
			if err != nil || fmt.Sprint(p) != fmt.Sprint(want) {
				t.Errorf("flags, then variables, then the file: got %v, %v; want %v", p, err, want)
			}
			t.Setenv("LITHIFY_WORKER_SLOTS", "many")
			if _, _, err = load(t, pf, nil); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "$LITHIFY_WORKER_SLOTS") {
				t.Errorf("a variable that is no number: %v", err)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		text, want string
	}{
		"unknown":        {"version: 1\nslotz: 4\n", `worker.yaml:2: unknown key "slotz"; the nearest is "slots"`},
		"like nothing":   {"version: 1\ncolour: red\n", `worker.yaml:2: unknown key "colour": `},
		"itself":         {"version: 1\nconfig: x\n", `unknown key "config": `},
		"twice":          {"version: 1\nslots: 4\nslots: 5\n", "worker.yaml:3: slots is in line 2, too"},
		"no number":      {"version: 1\nslots: four\n", "worker.yaml:2: invalid argument \"four\""},
		"many numbers":   {"version: 1\nslots: [4, 5]\n", "worker.yaml:2: invalid argument"},
		"nothing":        {"version: 1\nslots:\n", "worker.yaml:2: slots: want a value"},
		"a map":          {"version: 1\nslots: {a: b}\n", "worker.yaml:2: slots: want a value"},
		"no version":     {"slots: 4\n", "it does not say its version: write version: 1"},
		"later":          {"version: 2\nserver: x\n", "worker.yaml:1: version 2: this lithify knows 1 to 1"},
		"no YAML":        {"version: 1\nslots: [\n", "worker.yaml: yaml: line 2"},
		"two of them":    {"version: 1\n---\nversion: 1\n", "a second document"},
		"empty":          {"", "want keys with values"},
		"a list":         {"- version: 1\n", "want keys with values"},
		"key that is no": {"version: 1\n[a]: b\n", "want a value"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := load(t, false, nil, "--config", write(t, tt.text))
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, _, err := load(t, false, nil, "--config", filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

// later are renames as they may be made one day, one of a flag that was renamed before.
var later = []renamed{{2, "server", "url"}, {3, "url", "nats"}, {3, "workers", "slots"}}

// TestRenamed reads and migrates files of earlier versions.
func TestRenamed(t *testing.T) {
	for name, tt := range map[string]struct {
		text, migrated string
		keys           []string
	}{
		"first":  {"# ours\nversion: 1 # of 2026\nserver: nats://one # here\n\"workers\": 4\n", "# ours\nversion: 3 # of 2026\nnats: nats://one # here\n\"slots\": 4\n", []string{"server", "workers"}},
		"second": {"version: 2\nurl: nats://one\nslots: 4\n", "version: 3\nnats: nats://one\nslots: 4\n", []string{"url"}},
		"flow":   {"{version: '1', server: nats://one, workers: 4}", "{version: '3', nats: nats://one, slots: 4}", []string{"server", "workers"}},
		"newest": {"version: 3\nnats: nats://one\nslots: 4\n", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, tt.text)
			p, warnings, err := load(t, false, later, "--config", path)
			var keys []string
			for _, w := range warnings {
				keys = append(keys, w.Key)
				if w.File != path || !strings.Contains(w.String(), w.Key) {
					t.Errorf("warning %q names not the file and the key", w)
				}
			}
			if err != nil || p.nats != "nats://one" || p.slots != 4 || !slices.Equal(keys, tt.keys) {
				t.Errorf("got %+v, warnings of %q, %v", p, keys, err)
			}
			diff, err := migrate(path, []byte(tt.text), later)
			if err != nil || (diff == "") != (tt.migrated == "") {
				t.Fatalf("diff %q, %v", diff, err)
			}
			if diff == "" {
				return
			}
			cmd := exec.CommandContext(t.Context(), "patch", "-p1", "-d", "/")
			cmd.Stdin = strings.NewReader(diff)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("patch: %v: %s\n%s", err, out, diff)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != tt.migrated {
				t.Errorf("migrated: %v\n%s\nwant\n%s", err, got, tt.migrated)
			}
			if again, warnings, err := load(t, false, later, "--config", path); err != nil || len(warnings) > 0 || fmt.Sprint(again) != fmt.Sprint(p) {
				t.Errorf("migrated it says %+v, %v, %v", again, warnings, err)
			}
		})
	}
	for text, want := range map[string]string{
		"version: 1\nserver: a\nnats: b\n": "worker.yaml:2: server is called nats now, and that is in line 3, too: delete one of them",
		"{version: 1, server: a, nats: b}": "worker.yaml:1: server is called nats now, and that is in line 1, too: delete one of them",
		"version: 3\nserver: a\n":          `unknown key "server"`,
	} {
		if _, _, err := load(t, false, later, "--config", write(t, text)); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func FuzzMigrate(f *testing.F) {
	f.Add(whole)
	f.Add("\"version\": '1'\r\n? server\r\n: ä\r")
	f.Fuzz(func(t *testing.T, text string) { migrate("x.yaml", []byte(text), later) })
}
