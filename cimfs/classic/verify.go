package classic

import (
	"context"
	"fmt"
)

// Summary counts what is in a CIM.
type Summary struct {
	Directories int `json:"directories"`
	Files       int `json:"files"`
	Links       int `json:"links"` // further names of files
	Streams     int `json:"streams"`
}

// Verify reads all that a CIM has of its files and directories, and checks that each is found
// by its name, and that its content is inside the regions. It reads no content: there is nothing
// to compare it with. The digests of objectid files are made in a way that is not known.
func (c *CIM) Verify(ctx context.Context) (*Summary, error) {
	root, err := c.walk(".")
	if err != nil {
		return nil, err
	}
	v := &verifier{seen: map[fileID]bool{}}
	if err := v.directory(ctx, root, ""); err != nil {
		return nil, err
	}
	return &v.Summary, nil
}

type verifier struct {
	Summary
	seen map[fileID]bool // files, which may have several names
}

func (v *verifier) directory(ctx context.Context, n *node, dir string) error {
	v.Directories++
	if err := v.metadata(n); err != nil {
		return fmt.Errorf("%s: %w", dir+"/", err)
	}
	l, err := n.links()
	if err != nil {
		return fmt.Errorf("%s: %w", dir+"/", err)
	}
	for i := range l.Count {
		if err := ctx.Err(); err != nil {
			return err
		}
		entry, err := n.link(l, i)
		if err != nil {
			return fmt.Errorf("%s: %w", dir+"/", err)
		}
		name := dir + "/" + entry.name
		if found, err := n.c.find(l, entry.name); err != nil || found != i {
			return fmt.Errorf("%s: %w", name, damage("it is not found by its name"))
		}
		if err := v.entry(ctx, entry, name); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) entry(ctx context.Context, n *node, name string) error {
	if tooLong(name[1:]) {
		return damage("a path of more than %d characters", maxPath)
	}
	if n.isDir() {
		return v.directory(ctx, n, name)
	}
	if v.seen[n.id] {
		v.Links++
		return nil
	}
	v.seen[n.id] = true
	v.Files++
	if _, err := n.c.content(n.Default); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := v.metadata(n); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// metadata looks at what files and directories have.
func (v *verifier) metadata(n *node) error {
	m, err := n.metadata()
	if err != nil {
		return err
	}
	for _, s := range m.Streams {
		v.Streams++
		if _, err := n.stream(s.Name); err != nil {
			return fmt.Errorf("alternate stream %q: %w", s.Name, err)
		}
	}
	return nil
}
