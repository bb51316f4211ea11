package commit

import (
	"context"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lithify/lithify/convert/stack"
)

type skipper func(name string, d fs.DirEntry) bool

// skip leaves out what was asked for, and the empty files that the runtime made to mount
// on: resolv.conf, for example. Empty directories for volumes stay, as docker commit has
// them too.
func (o Options) skip(ctx context.Context, c *stack.Container) (skipper, error) {
	var patterns []string
	for _, p := range o.Exclude {
		patterns = append(patterns, strings.Trim(p, "/"))
	}
	points, err := c.MountPoints(ctx)
	if err != nil {
		return nil, err
	}
	return func(name string, d fs.DirEntry) bool {
		if slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok }) {
			return true
		}
		return slices.Contains(points, name) && isEmpty(d)
	}, nil
}

func isEmpty(d fs.DirEntry) bool {
	info, err := d.Info()
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}
