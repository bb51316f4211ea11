package restore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/restore/image"
)

// Away reports whether err is of a registry that gave no answer, or that says that it cannot
// give one now. One that refuses has answered.
func Away(err error) bool {
	e, ok := errors.AsType[*registry.Error](err)
	return errors.Is(err, errSilent) || ok && errors.Is(e, errdefs.ErrUnavailable) && (e.Status == 0 || e.Status >= 500)
}

// askTimeout is how long a registry that says nothing is asked where there may be a copy to be had
// instead. It is far above what a manifest and its signatures take; without a copy it is waited for
// as long as for any answer, which is more than an hour.
const askTimeout = 30 * time.Second

var errSilent = fmt.Errorf("it does not answer: %w", errdefs.ErrUnavailable)

// AskBriefly has ask put questions to the registry of an image. If they take half a minute, that
// is [Away].
func AskBriefly(ctx context.Context, name string, ask func(context.Context) error) error {
	return askFor(ctx, askTimeout, name, ask)
}

func askFor(ctx context.Context, d time.Duration, name string, ask func(context.Context) error) error {
	brief, cancel := context.WithTimeoutCause(ctx, d, errSilent)
	defer cancel()
	err := ask(brief)
	if err != nil && ctx.Err() == nil && brief.Err() != nil {
		return fmt.Errorf("%s was asked for %v: %w", cmp.Or(convert.RegistryOf(name), name), d, errSilent)
	}
	return err
}

// Ask is AskBriefly where this machine has a copy of the image that o.LocalFor may have instead, or
// else ask.
func (o Options) Ask(ctx context.Context, name string, ask func(context.Context) error) error {
	o = o.withDefaults()
	if _, dgst, pinned := strings.Cut(name, "@"); pinned && o.LocalFor != "" {
		if _, _, err := o.findCopy(name, digest.Digest(dgst)); err == nil {
			return askFor(ctx, o.patience, name, ask)
		}
	}
	return ask(ctx)
}

// openImage finds the image, in the registry or, while that is away, here.
func (r *run) openImage(ctx context.Context) (err error) {
	err = r.opts.Ask(ctx, r.src.Name(), func(ctx context.Context) error { r.img, err = r.open(ctx, r.src); return err })
	if Away(err) {
		return r.fallBack(ctx, err)
	}
	return err
}

// open refuses an image that may not be restored here, or not be read by the keys given.
func (r *run) open(ctx context.Context, src convert.Source) (*image.Image, error) {
	img, err := image.Open(ctx, src)
	if err != nil {
		return nil, err
	}
	if r.opts.Allow != nil {
		if err := r.opts.Allow(ctx, img); err != nil {
			return nil, err
		}
	}
	// Also where the cache has it, decrypted by another's key.
	return img, img.Unlock(r.opts.Decrypt)
}

// readable asks the registry whether it gives the checkpoint to who restores it. While it is away
// the machine's owner may have answered.
func (r *run) readable(ctx context.Context) error {
	if r.local != nil {
		return nil
	}
	err := r.opts.Ask(ctx, r.img.Name, r.img.Readable)
	if Away(err) {
		return r.fallBack(ctx, err)
	}
	return err
}

// local is a checkpoint of this machine's that is restored though nobody could ask its registry.
type local struct {
	documents
	away error // what became of the question
}

// fallBack takes this machine's copy, if there is one that may be had, because the registry is
// away. What is wrong with the copy is no fault of the job's: the error stays one of the registry's.
func (r *run) fallBack(ctx context.Context, away error) error {
	if r.opts.LocalFor == "" {
		return away
	}
	if err := r.openCopy(ctx, away); err != nil {
		return fmt.Errorf("%w; a local copy is not restored: %v", away, err)
	}
	return nil
}

func (r *run) openCopy(ctx context.Context, away error) error {
	name := r.src.Name()
	_, want, pinned := strings.Cut(name, "@")
	if !pinned {
		return fmt.Errorf("what %s names the registry alone knows, so name a digest", name)
	}
	file, docs, err := r.opts.findCopy(name, digest.Digest(want))
	if err != nil {
		return err
	}
	img, err := r.open(ctx, localSource{name, docs})
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	r.img, r.local = img, &local{docs, away}
	if filepath.Dir(file) != r.cache().kept(r.unpacked()) {
		return fmt.Errorf("%s lies beside another checkpoint than its manifest has", file)
	}
	return nil
}

// copyName is the file of what is kept of an image: for whom, and from which repository, since
// neither another's word nor another repository's is one for them.
func (o Options) copyName(name string, dgst digest.Digest) (string, error) {
	repository, err := registry.RepositoryName(name)
	return digest.FromString(o.LocalFor+"\x00"+repository+"@"+dgst.String()).Encoded() + ".json", err
}

// findCopy finds what is kept of the image that ref names, which has the digest.
func (o Options) findCopy(ref string, dgst digest.Digest) (file string, docs documents, err error) {
	name, err := o.copyName(ref, dgst)
	if err != nil {
		return "", docs, err
	}
	cached := o.cache().dir
	dirs, err := os.ReadDir(cached)
	for _, dir := range dirs {
		if filepath.Ext(dir.Name()) != keptSuffix {
			continue
		}
		file = filepath.Join(cached, dir.Name(), name)
		raw, rerr := os.ReadFile(file)
		if errors.Is(rerr, fs.ErrNotExist) {
			continue
		}
		if rerr == nil {
			rerr = json.Unmarshal(raw, &docs)
		}
		if rerr != nil {
			return "", docs, fmt.Errorf("%s: %w", file, rerr)
		}
		if docs.Root.Digest != dgst {
			return "", docs, fmt.Errorf("%s is of %s", file, docs.Root.Digest)
		}
		return file, docs, nil
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil {
		err = fmt.Errorf("no job of tenant %s has restored it here of that repository since it was unpacked", o.LocalFor)
	}
	return "", docs, err
}

// keep writes down what it takes to restore the checkpoint without its registry, unless that is
// there: whatever the image is opened and judged by today.
func (r *run) keep(ctx context.Context, dir string) error {
	if r.opts.LocalFor == "" || convert.RegistryOf(r.img.Name) == "" {
		return nil
	}
	name, err := r.opts.copyName(r.src.Name(), r.img.Descriptor.Digest)
	if err != nil {
		return err
	}
	if _, docs, err := r.opts.findCopy(r.src.Name(), r.img.Descriptor.Digest); err == nil {
		if _, err := r.open(ctx, localSource{r.img.Name, docs}); err == nil {
			return nil
		}
	}
	rec := recorder{Source: r.src}
	err = askFor(ctx, r.opts.patience, r.src.Name(), func(ctx context.Context) error { _, err := r.open(ctx, &rec); return err })
	if Away(err) { // by now: the next restore may keep it
		return nil
	} else if err != nil {
		return err
	}
	if rec.docs.Files, err = sumOf(ctx, dir); err != nil {
		return err
	}
	return rec.docs.write(filepath.Join(r.cache().kept(r.unpacked()), name))
}

// check refuses a copy whose files are not what they were when the registry was asked.
func (l *local) check(ctx context.Context, dir string) error {
	sum, err := sumOf(ctx, dir)
	if err == nil && sum != l.Files {
		err = fmt.Errorf("%w; a local copy is not restored: the files in %s were changed since they were unpacked, so remove it", l.away, dir)
	}
	return err
}
