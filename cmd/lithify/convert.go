package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const convertLong = `Convert an image to EROFS and publish it.

SRC is a registry reference, oci:DIR[:TAG], oci-archive:FILE[:TAG] or
docker-archive:FILE[:REF]. DST is a registry reference with a tag, or oci:DIR[:TAG].

DST becomes an index: the original manifests, byte for byte, and behind them an
EROFS variant of each platform converted. stdout gets one line, DST@DIGEST.`

const convertExample = `  # this machine's platform, beside the original
  lithify convert docker.io/library/debian:12 registry.example.com/debian:12-erofs

  # every platform, for readers of the erofs-image-spec draft, compressed
  lithify convert --all-platforms --profile erofs+zstd --dialect spec SRC DST

  # layers that hold their original tars, made and pushed in one pass
  lithify convert --profile erofs-tar SRC DST

  # metadata alone, over the original layers, which no released containerd reads yet
  lithify convert --profile erofs-index --dialect spec SRC DST

  # from a file to a directory, no registry at all
  lithify convert docker-archive:app.tar oci:layout:app`

func (a *app) convertCommand() *cobra.Command {
	var f convertFlags
	var local localFlags
	cmd := &cobra.Command{
		Use:     "convert SRC DST",
		Short:   "Convert an image here, without a queue",
		Long:    convertLong,
		Example: convertExample,
		Args:    exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := f.args(args[0], args[1])
			if err != nil {
				return err
			}
			return a.publish(&local, job.Output, func(h convertrun.Handler) (*convert.Result, error) { return h.Run(cmd.Context(), job) })
		},
	}
	f.add(cmd.Flags())
	local.add(cmd.Flags(), &f.job.Output)
	return cmd
}

// convertFlags are the flags of convert and submit convert.
type convertFlags struct {
	flags *pflag.FlagSet
	job   convertjob.Args
}

func (f *convertFlags) add(fs *pflag.FlagSet) {
	f.flags = fs
	j := &f.job
	fs.StringSliceVar(&j.Platforms, "platform", nil, "platform to convert, os/arch[/variant]; may be repeated (default this machine's)")
	fs.BoolVar(&j.AllPlatforms, "all-platforms", false, "convert every Linux platform")
	fs.BoolVar(&j.BlockCIM, "blockcim", false, "convert platforms of Windows that are asked for, too, to block CIMs: on Windows, or in a pool with a worker there")
	fs.BoolVar(&j.BlockCIMMerged, "blockcim-merged", false, "with --blockcim: also make the CIM that joins those of an image's layers, which nodes make at an image's first container otherwise")
	fs.BoolVar(&j.InPlace, "in-place", false, "allow DST to be the tag that SRC names")
	addOutputFlags(fs, &j.Output)
}

// addOutputFlags are those of every verb that publishes an image.
func addOutputFlags(fs *pflag.FlagSet, o *convertjob.Output) {
	fs.StringVar(&o.Profile, "profile", string(erofs.ProfileRaw), "format of the layers: erofs, erofs+zstd, erofs-tar (which keeps the original tar, see extract-tar), or erofs-index (metadata alone, over the original layers; with --dialect spec; no released containerd reads it)")
	fs.StringVar(&o.Dialect, "dialect", string(erofs.DialectLegacy), "media types: legacy (containerd up to 2.4) or spec (the erofs-image-spec draft)")
	fs.BoolVar(&o.InlineTails, "inline-tails", false, "put the last bytes of files into the metadata: smaller layers, not of profiles erofs-tar and erofs-index")
	fs.BoolVar(&o.Verity, "verity", false, "put a dm-verity tree behind each EROFS image, its root digest and the blob's fs-verity digest into the layer's annotations")
	fs.StringVar(&o.Verify, "verify", string(convert.VerifyFull), "what is compared before anything is published: full (each layer with its tar, and the layers on each other), stack (the layers on each other), or none")
	fs.BoolVar(&o.Replace, "replace", false, "publish the EROFS manifests alone, without the originals")
	fs.BoolVar(&o.BreakSignature, "break-signature", false, "move DST even if what it names is signed or referred to")
	fs.BoolVar(&o.Insecure, "insecure", false, "speak plain HTTP to the registries")
	d := erofs.DefaultLimits
	fs.Int64Var(&o.Limits.Bytes, "max-bytes", d.Bytes, "refuse a layer that unpacks to more bytes")
	fs.Int64Var(&o.Limits.FileBytes, "max-file-bytes", d.FileBytes, "refuse a layer with a file of more bytes, holes included")
	fs.Int64Var(&o.Limits.Entries, "max-entries", d.Entries, "refuse a layer with more entries")
	fs.Int64Var(&o.Limits.PAXBytes, "max-pax-bytes", d.PAXBytes, "refuse a layer with an extended header of more bytes")
	fs.Int64Var(&o.Limits.MetaBytes, "max-meta-bytes", d.MetaBytes, "refuse a layer with more bytes of names and attributes")
}

// checkOutput is what args.Validate cannot know of a command line.
func checkOutput(o convertjob.Output) error {
	if min(o.Limits.Bytes, o.Limits.FileBytes, o.Limits.Entries, o.Limits.PAXBytes, o.Limits.MetaBytes) == 0 {
		return usageError{errors.New("a limit of 0 refuses every layer: --max-bytes and its like are above zero")}
	}
	if _, err := registry.Create(o.Target, registry.Options{}); err != nil { // makes nothing before it is written to
		return usageError{err}
	}
	return nil
}

func (f *convertFlags) args(src, dst string) (convertjob.Args, error) {
	j := f.job
	j.Source, j.Target = src, dst
	if err := j.Validate(); err != nil {
		return j, usageError{err}
	}
	if f.flags.Changed("platform") && (len(j.Platforms) == 0 || slices.Contains(j.Platforms, "")) {
		return j, usageError{errors.New("--platform is empty: want os/arch[/variant]")}
	}
	if err := registry.Check(src); err != nil {
		return j, usageError{err}
	}
	if err := checkOutput(j.Output); err != nil {
		return j, err
	}
	if registry.SamePlace(src, dst) {
		return j, usageError{fmt.Errorf("DST %s is the layout of SRC: name the tag that the result is to get, %s:TAG", dst, dst)}
	}
	return j, nil
}

// localFlags are those of every verb that converts here.
type localFlags struct {
	ledgerKey, tempDir string
	parallel           int
	signs              bool // without a ledger the key is of use, too
}

func (l *localFlags) add(fs *pflag.FlagSet, o *convertjob.Output) {
	fs.StringVar(&o.LedgerRepo, "ledger-repo", "", "repository of DST's registry in which converted layers are looked up (default none)")
	fs.StringVar(&l.ledgerKey, "ledger-key", "", "PEM file with the pool's Ed25519 key for ledger records")
	fs.StringVar(&l.tempDir, "temp-dir", "", "where layers lie until they are pushed (default $TMPDIR)")
	fs.IntVar(&l.parallel, "parallel", 0, "layers in flight (default the number of CPUs)")
}

// handler is one that publishes o.
func (l *localFlags) handler(a *app, o convertjob.Output) (h convertrun.Handler, err error) {
	if l.parallel < 0 {
		return h, usageError{fmt.Errorf("--parallel %d is below zero", l.parallel)}
	}
	if (l.ledgerKey == "") != (o.LedgerRepo == "") && !(l.signs && l.ledgerKey != "") {
		return h, usageError{errors.New("--ledger-repo and --ledger-key go together")}
	}
	h = convertrun.Handler{AllowFiles: true, TempDir: l.tempDir, Parallel: l.parallel, Log: a.log}
	if l.ledgerKey == "" {
		return h, nil
	}
	key, err := convertrun.LoadKey(l.ledgerKey)
	if err != nil {
		return h, usageError{err}
	}
	h.SignWith(key)
	return h, nil
}

// publish has run publish an image here, shows how it goes, and prints the result.
func (a *app) publish(local *localFlags, o convertjob.Output, run func(convertrun.Handler) (*convert.Result, error)) error {
	h, err := local.handler(a, o)
	if err != nil {
		return err
	}
	show := newProgress(a.err)
	h.Progress = show.event
	result, err := run(h)
	show.close(err)
	if err != nil {
		return err
	}
	return a.printResult(result)
}

func (a *app) printResult(r *convert.Result) error {
	if a.output == "json" {
		return a.printJSON(r)
	}
	_, err := fmt.Fprintf(a.out, "%s@%s\n", r.Target, r.Descriptor.Digest)
	return err
}

// exactArgs is cobra.ExactArgs with our exit code and the command's own words.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("want %q, see %q", cmd.UseLine(), cmd.CommandPath()+" --help")}
		}
		return nil
	}
}

// oneJob wants the ID of a job.
var oneJob = cobra.MatchAll(exactArgs(1), jobIDs)

// jobIDs wants nothing but IDs of jobs.
func jobIDs(_ *cobra.Command, args []string) error {
	for _, id := range args {
		if _, err := jobs.ParseID(id); err != nil {
			return usageError{err}
		}
	}
	return nil
}
