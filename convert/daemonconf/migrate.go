package daemonconf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"github.com/containerd/errdefs"
)

// Migrate gives, as a unified diff, how to have bin_dirs in the place of CNI's bin_dir,
// which containerd 2.4 passes over: a text that patch -p1 -d / takes, with all else of the files
// as it is; "" if there is nothing to do. Containerd before 2.1 does not know bin_dirs.
//
// Where both are set, or one of them twice, nobody can say what was meant: that is an
// errdefs.ErrFailedPrecondition that names them.
func (c *Config) Migrate() (diff string, _ error) {
	dirs := c.binDirs()
	i := slices.IndexFunc(dirs, func(d place) bool { return d.name() == "bin_dir" })
	if i < 0 {
		return "", nil
	}
	if len(dirs) > 1 {
		var at []string
		for _, d := range dirs {
			at = append(at, fmt.Sprintf("%s:%d: %s", d.file.Path, d.file.line(d.key.from), d.name()))
		}
		return "", fmt.Errorf("CNI's directories are set more than once, leave one: %s: %w", strings.Join(at, ", "), errdefs.ErrFailedPrecondition)
	}
	d := dirs[i]
	if d.value == (span{}) {
		return "", fmt.Errorf("%s:%d: bin_dir is no string: %w", d.file.Path, d.file.line(d.key.from), errdefs.ErrInvalidArgument)
	}
	was := string(d.file.text)
	quoted := was[d.value.from:d.value.to]
	now := was[:d.key.from] + "bin_dirs" + was[d.key.to:d.value.from] + "[" + quoted + "]" + was[d.value.to:]
	path := strings.TrimPrefix(d.file.Path, "/")
	return udiff.Unified("a/"+path, "b/"+path, was, now), nil
}

// place is a setting of a file.
type place struct {
	file *File
	setting
}

func (p place) name() string { return p.path[len(p.path)-1] }

// binDirs are where it is said in which directories CNI's plugins are.
func (c *Config) binDirs() (all []place) {
	cri := [][]string{split(oldCRI + ".cni"), split(runtime + ".cni")}
	for _, f := range c.Files {
		for _, k := range f.keys {
			keys := f.canonical(k.path)
			table, name := keys[:len(keys)-1], keys[len(keys)-1]
			if name == "bin_dir" && k.zero() {
				continue // containerd 2.3 writes it so itself
			}
			if (name == "bin_dir" || name == "bin_dirs") && slices.ContainsFunc(cri, func(t []string) bool { return slices.Equal(t, table) }) {
				all = append(all, place{f, k})
			}
		}
	}
	return all
}
