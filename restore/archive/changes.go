package archive

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// The OCI image spec's whiteouts.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// Changes gives the files that the container had changed as the uncompressed tar of an OCI
// layer, with whiteouts for those it had deleted, in whichever way the archive in dir
// says so. What is not fit for a layer is an [*EntryError] of Read. Close must be called.
func (c *Checkpoint) Changes(ctx context.Context, dir string, limits Limits) io.ReadCloser {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(c.writeLayer(ctx, w, dir, limits))
	}()
	return &pipe{r, done}
}

// pipe waits, when it is closed, for who writes.
type pipe struct {
	*io.PipeReader
	done chan struct{}
}

func (p *pipe) Close() error {
	err := p.PipeReader.Close()
	<-p.done
	return err
}

func (c *Checkpoint) writeLayer(ctx context.Context, w io.Writer, dir string, limits Limits) error {
	d, err := c.openChanges(ctx, dir, limits)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.layer(w)
}

// changes are the changed files in a directory that Read filled.
type changes struct {
	ctx     context.Context
	root    *os.Root
	limits  Limits
	layered bool     // deleted files are whiteouts in the tar
	deleted []string // else they are these, sorted, relative; none is below another
}

func (c *Checkpoint) openChanges(ctx context.Context, dir string, limits Limits) (*changes, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d := &changes{ctx: ctx, root: root, limits: limits.withDefaults(), layered: c.Format == Containerd}
	if !d.layered {
		d.deleted, err = d.readDeleted()
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return d, nil
}

func (d *changes) Close() error { return d.root.Close() }

// readDeleted reads deleted.files: absolute paths, each of which is to go with all below.
func (d *changes) readDeleted() ([]string, error) {
	var paths []string
	err := loader{d.root, d.limits}.json(deletedFile, &paths)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i, p := range paths {
		name := strings.TrimPrefix(p, "/")
		if !fs.ValidPath(name) || name == "." || strings.HasPrefix(path.Base(name), whiteout) {
			return nil, refused(deletedFile, "it names %q, which is no path of a file in a container; make the checkpoint anew", p)
		}
		paths[i] = name
	}
	slices.Sort(paths)
	var kept []string
	seen := map[string]bool{}
	for _, p := range paths {
		if !seen[p] && !within(seen, p) {
			kept = append(kept, p)
			seen[p] = true
		}
	}
	return kept, nil
}

// within says whether a directory above name is in a set.
func within(set map[string]bool, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if set[dir] {
			return true
		}
	}
	return false
}

// layer writes the OCI layer: first what goes, then what is new.
func (d *changes) layer(w io.Writer) error {
	t := tar.NewWriter(w)
	for _, name := range d.deleted {
		dir, base := path.Split(name)
		if err := t.WriteHeader(&tar.Header{Name: dir + whiteout + base, Typeflag: tar.TypeReg, Mode: 0o600}); err != nil {
			return err
		}
	}
	err := d.each(func(_ string, hdr *tar.Header, r io.Reader) error { return copyEntry(t, hdr, r) })
	if err != nil {
		return err
	}
	return t.Close()
}

func copyEntry(t *tar.Writer, hdr *tar.Header, r io.Reader) error {
	if err := t.WriteHeader(hdr); err != nil {
		return err
	}
	_, err := io.Copy(t, r)
	return err
}

// each calls f with each entry of the tar and its clean name, once it is known to be fit
// for a layer.
func (d *changes) each(f func(name string, hdr *tar.Header, r io.Reader) error) error {
	file, err := d.root.Open(ChangesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	s, err := newStream(d.ctx, file, d.limits)
	if err != nil {
		return &EntryError{ChangesFile, "it cannot be decompressed, fetch the checkpoint again", err}
	}
	defer s.close()
	tr := tar.NewReader(s)
	seen := map[string]bool{}
	for entries := int64(1); ; entries++ {
		from := s.n
		hdr, err := tr.Next()
		if err == io.EOF && !s.whole(from) {
			err = io.ErrUnexpectedEOF
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return inChanges(err)
		}
		if s.at = inTar(hdr.Name); entries > d.limits.Entries {
			return &LimitError{s.at, "entries", d.limits.Entries}
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name, err := d.fit(hdr)
		if err != nil {
			return err
		}
		switch {
		case name == ".": // engines pass over the root itself
			continue
		case seen[name]:
			return refused(s.at, "there are two of it, and which one counts depends on the reader; make the checkpoint anew")
		}
		seen[name] = true
		if err := f(name, hdr, tr); err != nil {
			return inChanges(err)
		}
		if _, err := io.Copy(io.Discard, tr); err != nil {
			return inChanges(err)
		}
	}
}

func inTar(name string) string { return ChangesFile + ": " + name }

// inChanges tells damage of the tar from errors of who writes.
func inChanges(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
		return &EntryError{ChangesFile, "it is damaged, fetch the checkpoint again", err}
	}
	return err
}

// fit refuses what would reach out of a container's root when the layer is applied, or
// change how the root itself works. Symbolic links may lead anywhere: they are looked up
// in the container.
func (d *changes) fit(hdr *tar.Header) (string, error) {
	full := inTar(hdr.Name)
	name, err := d.cleanLayer(hdr.Name, hdr.Typeflag == tar.TypeDir)
	if err != nil {
		return "", err
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo:
	case tar.TypeLink:
		if _, err := d.cleanLayer(hdr.Linkname, false); err != nil {
			return "", err
		}
	case tar.TypeChar, tar.TypeBlock:
		return "", refused(full, "it is %s, which a container gets from its runtime alone; delete it in the container and make the checkpoint anew", kinds[hdr.Typeflag])
	default:
		return "", refused(full, "it is of an unknown type; make the checkpoint anew")
	}
	if sparse(hdr) {
		return "", refused(full, "it is a sparse file, which no engine writes; write the archive without them")
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.trusted.") || strings.HasPrefix(key, "SCHILY.xattr.user.overlay.") {
			return "", refused(full, "it has the extended attribute %s, which is the snapshotter's own; make the checkpoint anew", strings.TrimPrefix(key, "SCHILY.xattr."))
		}
	}
	return name, d.fitWhiteout(full, name, hdr)
}

func (d *changes) fitWhiteout(full, name string, hdr *tar.Header) error {
	base := path.Base(name)
	switch {
	case !strings.HasPrefix(base, whiteout):
		return nil
	case !d.layered:
		return refused(full, "its name would delete another file in engines that know whiteouts; rename it in the container and make the checkpoint anew")
	case base == whiteout, base != opaque && strings.HasPrefix(base, whiteout+whiteout), hdr.Typeflag != tar.TypeReg, hdr.Size != 0:
		return refused(full, "it is no whiteout of the OCI image spec; make the checkpoint anew")
	}
	return nil
}

// cleanLayer is a name without a leading "./" or slash, and a directory's without its own.
func (d *changes) cleanLayer(name string, dir bool) (string, error) {
	if int64(len(name)) > d.limits.Name {
		return "", &LimitError{inTar(name[:64] + "..."), "bytes of a name", d.limits.Name}
	}
	clean := strings.TrimPrefix(strings.TrimPrefix(name, "./"), "/")
	if dir {
		clean = strings.TrimSuffix(clean, "/")
	}
	if dir && clean == "" {
		clean = "."
	}
	if clean == "" || strings.Contains(clean, "\x00") || path.Clean("/"+clean) != "/"+clean && clean != "." {
		return "", refused(inTar(name), "its name leads elsewhere than it says; write the archive with plain relative names")
	}
	return clean, nil
}
