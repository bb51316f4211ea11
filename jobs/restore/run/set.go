package run

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/restore"
	"github.com/lithify/lithify/restore/set"
)

// Resolve pins what is to be restored to the digest that it has now. If that is of a set, it
// gives its checkpoints, too.
func Resolve(ctx context.Context, h convertrun.Handler, a restorejob.Args) (restorejob.Args, []set.Container, error) {
	src, err := h.Open(convertjob.Pinned(a.Source, a.SourceDigest), a.Insecure)
	if err != nil {
		return a, nil, err
	}
	root, err := src.Root(ctx)
	if err != nil {
		return a, nil, err
	}
	if a.SourceDigest = root.Digest; !images.IsIndexType(root.MediaType) {
		return a, nil, nil
	}
	s, err := set.Open(ctx, src)
	if err != nil {
		return a, nil, err
	}
	return a, s.Containers, nil
}

// ResolveOne is Resolve, but of a digest whose registry is away: that is taken for a checkpoint's,
// of which a machine may have a copy, as it may not of a set. ask is restore.AskBriefly or a
// restore.Options' Ask.
func ResolveOne(ctx context.Context, h convertrun.Handler, a restorejob.Args, ask func(context.Context, string, func(context.Context) error) error) (resolved restorejob.Args, containers []set.Container, err error) {
	name := convertjob.Pinned(a.Source, a.SourceDigest)
	_, dgst, pinned := strings.Cut(name, "@")
	if !pinned {
		return Resolve(ctx, h, a)
	}
	err = ask(ctx, name, func(ctx context.Context) error { resolved, containers, err = Resolve(ctx, h, a); return err })
	if restore.Away(err) {
		a.SourceDigest = digest.Digest(dgst)
		return a, nil, nil
	}
	return resolved, containers, err
}

// takeBack bounds the removal of one container.
const takeBack = time.Minute

// RunAll restores one checkpoint, or all of a set: if one of these cannot be restored, the
// others are removed again.
func (h Handler) RunAll(ctx context.Context, a restorejob.Args) (rs []*restore.Result, isSet bool, err error) {
	rule, err := h.Policy.check(ctx, a)
	if err != nil {
		return nil, false, convertrun.WithKind(err)
	}
	var containers []set.Container
	if rule.LocalCopy {
		a, containers, err = ResolveOne(ctx, h.Convert, a, restore.Options{Root: h.Root, LocalFor: rule.localFor(ctx)}.Ask)
	} else {
		a, containers, err = Resolve(ctx, h.Convert, a)
	}
	if err != nil {
		return nil, false, convertrun.WithKind(err)
	}
	all := []restorejob.Args{a}
	if isSet = len(containers) > 0; isSet {
		all = nil
	}
	for _, c := range containers {
		all = append(all, a.Member(c.Name, c.Image.Digest))
	}
	if isSet && jobs.IDOf(ctx) == "" { // by which they are known to be ours
		ctx = jobs.WithID(ctx, jobs.ID("set-"+strings.ToLower(rand.Text())))
	}
	for _, one := range all {
		r, err := h.Run(ctx, one)
		if err != nil && isSet {
			err = errors.Join(fmt.Errorf("container %s: %w", one.Name, err), h.remove(ctx, a, rs))
		}
		if err != nil {
			return nil, isSet, err
		}
		rs = append(rs, r)
	}
	return rs, isSet, nil
}

// remove takes back what was restored.
func (h Handler) remove(ctx context.Context, a restorejob.Args, rs []*restore.Result) (err error) {
	id := string(jobs.IDOf(ctx))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBack)
	defer cancel()
	d, err := stack.Dial(h.Address, a.Namespace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for _, r := range rs {
		err = errors.Join(err, restore.Remove(ctx, d, restore.Options{Name: r.Container, Job: id, Root: h.Root}))
	}
	return err
}
