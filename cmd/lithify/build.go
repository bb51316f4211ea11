package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lithify/lithify/build"
	"github.com/lithify/lithify/convert"
	buildjob "github.com/lithify/lithify/jobs/build"
	buildrun "github.com/lithify/lithify/jobs/build/run"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
)

const buildLong = `Build an image from a Dockerfile, convert it and publish both.

CONTEXT is a directory, a tar archive, or a Git repository as URL[#REF[:DIR]]. DST is a
registry reference with a tag. What is built is pushed by its digest; DST moves once, to an
index of the image and its EROFS variant, when all of it is there. stdout gets DST@DIGEST.

The engine is BuildKit. Without --buildkit and $BUILDKIT_HOST a buildkitd is started for the
time of the build, which needs root, and buildkitd and runc in PATH; its cache stays in
--buildkit-root. A "# syntax=" line may name docker/dockerfile, which is built in; other
frontends are refused. In an archive or a repository the line counts for nothing.
$SOURCE_DATE_EPOCH, seconds since 1970, is the image's time and the latest of its files': the
same build then gives the same digest.

With --ledger-key, the provenance of --attest type=provenance is also signed and attached to
the image, where lithify verify --provenance finds it. Without a key it stays unsigned.

--metadata-file gets buildctl's keys: containerimage.digest and containerimage.descriptor of
what DST names now, image.name, and lithify.build.digest of what BuildKit pushed.`

const buildExample = `  lithify build . -t registry.example.com/app:1
  lithify build https://github.com/org/app.git#v1.2 -t registry.example.com/app:1.2 --profile erofs+zstd
  lithify build . -t DST --secret id=npm,src=$HOME/.npmrc --cache-to type=registry,ref=REF,mode=max`

func (a *app) buildCommand() *cobra.Command {
	var f buildFlags
	local := localFlags{signs: true}
	var here buildHere
	cmd := &cobra.Command{
		Use:     "build CONTEXT -t DST",
		Short:   "Build an image from a Dockerfile here, without a queue",
		Long:    buildLong,
		Example: buildExample,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.build(cmd.Context(), &f, &local, &here, args[0])
		},
	}
	f.add(cmd.Flags())
	here.add(cmd.Flags())
	local.add(cmd.Flags(), &f.job.Output)
	cmd.Flags().Lookup("ledger-key").Usage = "PEM file with the pool's Ed25519 key for ledger records and provenance"
	return cmd
}

// buildFlags are the flags of build and submit build.
type buildFlags struct {
	job                        buildjob.Args
	buildArgs, labels          []string
	metadataFile, progressMode string
}

func (f *buildFlags) add(fs *pflag.FlagSet) {
	j := &f.job
	fs.StringVarP(&j.Target, "tag", "t", "", "DST, the reference that is to name the image")
	fs.StringVarP(&j.Dockerfile, "file", "f", "", "the Dockerfile (default CONTEXT/Dockerfile); of an archive or a repository a name inside")
	fs.StringVar(&j.Stage, "target", "", "stage to build (default the last)")
	fs.StringArrayVar(&f.buildArgs, "build-arg", nil, "NAME=VALUE of an ARG, or NAME to take the value from the environment; may be repeated")
	fs.StringArrayVar(&f.labels, "label", nil, "NAME=VALUE for the image's config; may be repeated")
	fs.StringSliceVar(&j.Platforms, "platform", nil, "platform to build for, os/arch[/variant]; may be repeated (default buildkitd's)")
	fs.BoolVar(&j.NoCache, "no-cache", false, "run every step, whatever is in the cache")
	fs.StringVar(&j.Network, "network", "default", "of RUN steps: default, what buildkitd gives, or none")
	fs.StringArrayVar(&j.CacheFrom, "cache-from", nil, "cache to read, as type=registry,ref=REF; may be repeated")
	fs.StringArrayVar(&j.CacheTo, "cache-to", nil, "cache to write, as type=registry,ref=REF,mode=max; may be repeated")
	fs.StringArrayVar(&j.Attest, "attest", nil, "attestation to add, as type=provenance,mode=max; may be repeated")
	fs.StringVar(&j.Compression, "compression", "gzip", "of the layers' tars: gzip, zstd or none")
	fs.StringVar(&f.metadataFile, "metadata-file", "", "file for the digests of what was built, as JSON")
	fs.StringVar(&f.progressMode, "progress", "auto", "how to show the build on stderr: auto, plain, tty, rawjson or quiet")
	addOutputFlags(fs, &j.Output)
}

// args are those of a build of context, whose steps are to be shown on w.
func (f *buildFlags) args(context string, w io.Writer) (job buildjob.Args, err error) {
	job = f.job
	job.Context = context
	if job.Target == "" {
		return job, usageError{errors.New("-t is missing: where is the image to go?")}
	}
	if job.BuildArgs, err = assignments("build-arg", f.buildArgs, os.LookupEnv); err != nil {
		return job, usageError{err}
	}
	if job.Labels, err = assignments("label", f.labels, nil); err != nil {
		return job, usageError{err}
	}
	if job.Epoch, err = sourceDateEpoch(); err != nil {
		return job, usageError{err}
	}
	if _, err := displayOn(w, f.progressMode); err != nil { // found out before there is a job
		return job, err
	}
	if err := f.checkMetadataFile(); err != nil { // and before the tag has moved
		return job, usageError{fmt.Errorf("--metadata-file %s: %w", f.metadataFile, err)}
	}
	if err := job.Validate(); err != nil {
		return job, usageError{err}
	}
	return job, checkOutput(job.Output)
}

func (f *buildFlags) checkMetadataFile() error {
	if _, err := os.Stat(filepath.Dir(f.metadataFile)); err != nil {
		return err
	}
	if info, err := os.Stat(f.metadataFile); err == nil && info.IsDir() {
		return errors.New("it is a directory")
	}
	return nil
}

// assignments reads NAME=VALUE. Of a NAME alone env knows the value, or it is left out.
func assignments(flag string, words []string, env func(string) (string, bool)) (map[string]string, error) {
	m := map[string]string{}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if name == "" || !ok && env == nil {
			return nil, fmt.Errorf("--%s %q: want NAME=VALUE", flag, w)
		}
		if !ok {
			if value, ok = env(name); !ok {
				continue
			}
		}
		m[name] = value
	}
	return m, nil
}

// buildHere are the flags of a build without a queue.
type buildHere struct {
	buildkit, root string
	secrets, ssh   []string
}

// defaultBuildkitRoot is where a buildkitd of our own keeps its cache.
const defaultBuildkitRoot = "/var/lib/lithify/buildkit"

func (b *buildHere) add(fs *pflag.FlagSet) {
	fs.StringVar(&b.buildkit, "buildkit", os.Getenv("BUILDKIT_HOST"), "where a buildkitd listens, as unix:///run/buildkit/buildkitd.sock (default $BUILDKIT_HOST, else one is started)")
	fs.StringVar(&b.root, "buildkit-root", defaultBuildkitRoot, "directory of the buildkitd that is started")
	fs.StringArrayVar(&b.secrets, "secret", nil, "secret for RUN --mount=type=secret, as id=ID,src=FILE or id=ID,env=NAME; may be repeated")
	fs.StringArrayVar(&b.ssh, "ssh", nil, "agent or keys for RUN --mount=type=ssh, as default or ID=SOCKET|KEY[,KEY]; may be repeated")
}

// confide names in job what the flags give, and finds it by that name.
func (b *buildHere) confide(job *buildjob.Args, h *buildrun.Handler) error {
	secrets, agents := map[string]string{}, map[string]string{}
	for _, s := range b.secrets {
		id, err := build.SecretID(s)
		if err != nil {
			return usageError{err}
		}
		secrets[id] = s
	}
	for _, s := range b.ssh {
		id, _, _ := strings.Cut(s, "=")
		agents[id] = s
	}
	job.Secrets, job.SSH = slices.Sorted(maps.Keys(secrets)), slices.Sorted(maps.Keys(agents))
	h.Secret = func(id string) (string, error) { return secrets[id], nil }
	h.SSH = func(id string) (string, error) { return agents[id], nil }
	if err := job.Validate(); err != nil {
		return usageError{err}
	}
	return nil
}

// engine is the buildkitd that the flags name, or one started for as long as stop is not called.
func (b *buildHere) engine(ctx context.Context, a *app, job buildjob.Args) (e build.Engine, stop func() error, err error) {
	if b.buildkit != "" {
		return build.Engine{Address: b.buildkit}, func() error { return nil }, nil
	}
	c := build.DaemonConfig{Root: b.root, Log: a.log}
	if job.Insecure {
		c.Registries = job.Hosts()
	}
	d, err := build.StartDaemon(ctx, c)
	if err != nil {
		return e, nil, err
	}
	return build.Engine{Address: d.Address()}, d.Stop, nil
}

func (a *app) build(ctx context.Context, f *buildFlags, local *localFlags, here *buildHere, where string) (err error) {
	job, err := f.args(where, a.err)
	if err != nil {
		return err
	}
	var h buildrun.Handler
	if err := here.confide(&job, &h); err != nil {
		return err
	}
	show, err := showBuild(ctx, a.err, f.progressMode)
	if err != nil {
		return err
	}
	defer show.end()
	metadata := map[string]any{}
	h.Status = show.status
	h.Built = func(r *build.Result) {
		show.end()
		maps.Copy(metadata, r.Metadata)
	}
	return a.publish(local, job.Output, func(c convertrun.Handler) (_ *convert.Result, err error) {
		if f.progressMode == "quiet" || f.progressMode == "rawjson" {
			c.Progress = nil
		}
		h.Convert = c
		engine, stop, err := here.engine(ctx, a, job)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		h.Engine = engine
		r, err := h.Run(ctx, job)
		if err != nil {
			show.end()
			a.printExcerpt(err)
			return nil, err
		}
		return r, writeMetadata(f.metadataFile, metadata, r)
	})
}

// printExcerpt shows where in the Dockerfile the build failed.
func (a *app) printExcerpt(err error) {
	if failed, ok := errors.AsType[*build.Error](err); ok && failed.Excerpt != "" {
		fmt.Fprint(a.err, failed.Excerpt)
	}
}

// writeMetadata writes what buildctl would, of the image that the tag names now.
func writeMetadata(path string, metadata map[string]any, r *convert.Result) error {
	if path == "" {
		return nil
	}
	metadata["lithify.build.digest"] = r.SourceDigest
	metadata["containerimage.digest"] = r.Descriptor.Digest
	metadata["containerimage.descriptor"] = r.Descriptor
	metadata["image.name"] = r.Target
	raw, err := json.MarshalIndent(metadata, "", "  ")
	if err != nil {
		return err
	}
	err = replaceFile(path, func(w io.Writer) error {
		_, err := w.Write(append(raw, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("metadata file: %w", err)
	}
	return nil
}
