package flagfile

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/pflag"
)

// flagName is that of the flag that names the file; no file has it.
const flagName = "config"

// usage is its help.
const usage = "YAML file of flags by their names, below version: 1; a flag on the command line, or its variable $%sNAME, counts more"

// File is the file of a set of flags.
type File struct {
	flags  *pflag.FlagSet
	prefix string        // of its variables
	std    *flag.FlagSet // whose flags these are, if they are none of pflag

	renames []renamed
}

// Add adds --config to the flags of a program, by whose name its variables are called. Load
// is called when they have been parsed.
func Add(fs *flag.FlagSet, program string) *File {
	prefix := variable(program) + "_"
	fs.String(flagName, "", fmt.Sprintf(usage, prefix))
	return &File{flags: pflag.NewFlagSet("", pflag.ContinueOnError), std: fs, prefix: prefix, renames: renames}
}

// AddPFlag is Add for flags of a command.
func AddPFlag(fs *pflag.FlagSet, program string) *File {
	prefix := variable(program) + "_"
	fs.String(flagName, "", fmt.Sprintf(usage, prefix))
	return &File{flags: fs, prefix: prefix, renames: renames}
}

// variable is how a name is written in the environment.
func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// Warning is something that the file has as an earlier version had it. It counts.
type Warning struct {
	File     string
	Line     int
	Key, Now string
}

func (w Warning) String() string {
	return fmt.Sprintf("%s:%d: %s is called %s now; lithify config migrate %s shows how to have that", w.File, w.Line, w.Key, w.Now, w.File)
}

// Log says each warning as a line.
func Log(ctx context.Context, log *slog.Logger, warnings []Warning) {
	for _, w := range warnings {
		log.WarnContext(ctx, "configuration is of an earlier version", "file", w.File, "line", w.Line, "key", w.Key, "now", w.Now)
	}
}

// Load gives each flag that was not given its value from the environment, or else from the
// file, if there is one. What is wrong in there is an errdefs.ErrInvalidArgument that names
// the variable, or the file and the line.
func (f *File) Load() ([]Warning, error) {
	if f.std != nil {
		f.flags.AddGoFlagSet(f.std)
		f.std.Visit(func(given *flag.Flag) { f.flags.Lookup(given.Name).Changed = true })
	}
	if err := f.environment(); err != nil {
		return nil, err
	}
	path := f.flags.Lookup(flagName).Value.String()
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d, err := parse(path, text, f.renames)
	if err != nil {
		return nil, err
	}
	warnings, err := d.rename(f.renames)
	if err != nil {
		return nil, err
	}
	return warnings, f.apply(d)
}

// environment sets the flags that have a variable.
func (f *File) environment() error {
	var errs []error
	f.flags.VisitAll(func(fl *pflag.Flag) {
		name := f.prefix + variable(fl.Name)
		if value := os.Getenv(name); value != "" && !fl.Changed && fl.Name != "help" {
			if err := f.flags.Set(fl.Name, value); err != nil {
				errs = append(errs, fmt.Errorf("$%s: %w: %w", name, err, errdefs.ErrInvalidArgument))
			}
		}
	})
	return errors.Join(errs...)
}

// apply sets what the file says of flags that nobody else has set.
func (f *File) apply(d *document) error {
	for _, e := range d.entries {
		fl := f.flags.Lookup(e.key)
		if fl == nil || fl.Name == flagName || fl.Name == "help" {
			return d.wrong(e.line, "unknown key %q%s", e.key, f.nearest(e.key))
		}
		if fl.Changed {
			e.values = nil
		}
		if len(e.values) > 1 && fl.Value.Type() != manyTimes { // the flag takes them with commas, or not at all
			e.values = []string{strings.Join(e.values, ",")}
		}
		for _, v := range e.values {
			if err := f.flags.Set(fl.Name, v); err != nil {
				return d.wrong(e.line, "%w", err)
			}
		}
	}
	return nil
}

// manyTimes is the type, in pflag's words, of a flag.Func: of those that may be given again.
const manyTimes = "func"

// nearest names the flag whose name is most like a key, if one is.
func (f *File) nearest(key string) string {
	best, least := "", 1+len(key)/3
	f.flags.VisitAll(func(fl *pflag.Flag) {
		if n := distance(key, fl.Name); n <= least && fl.Name != flagName && fl.Name != "help" {
			best, least = fmt.Sprintf("; the nearest is %q", fl.Name), n-1
		}
	})
	return best
}

// distance is how many letters have to be put in, taken out or replaced between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := slices.Clone(row)
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(next[j]+1, row[j+1]+1, row[j]+cost)
		}
		row = next
	}
	return row[len(b)]
}
