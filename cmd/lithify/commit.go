package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/commit"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/jobs"
	commitjob "github.com/lithify/lithify/jobs/commit"
	commitrun "github.com/lithify/lithify/jobs/commit/run"
	convertjob "github.com/lithify/lithify/jobs/convert"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const commitLong = `Make an image of a container of this machine's containerd, and publish it.

CONTAINER is an ID, the beginning of one, or a name that nerdctl gave. DST is a registry
reference with a tag, or oci:DIR[:TAG].

The new layer is what the container has changed. The container is paused while that is
read, and runs on before anything is pushed; also if this command is killed. DST becomes
an index, as from lithify convert: the image as it is, and an EROFS variant of it.
$SOURCE_DATE_EPOCH, seconds since 1970, is the image's time and the latest of its new files'.`

const commitExample = `  lithify commit web-1 registry.example.com/web:patched
  lithify commit --namespace k8s.io --change 'CMD ["nginx"]' --message 'hot fix' 3f2a DST`

func (a *app) commitCommand() *cobra.Command {
	var f commitFlags
	var local localFlags
	var address string
	cmd := &cobra.Command{
		Use:     "commit CONTAINER DST",
		Short:   "Make an image of a container here, without a queue",
		Long:    commitLong,
		Example: commitExample,
		Args:    exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := f.args(args[0], args[1])
			if err != nil {
				return err
			}
			frozen := func(d time.Duration) {
				fmt.Fprintf(a.err, "container was paused for %v\n", d.Round(time.Millisecond))
			}
			return a.publish(&local, job.Output, func(h convertrun.Handler) (*convert.Result, error) {
				return commitrun.Handler{Convert: h, Address: address, Frozen: frozen}.Run(cmd.Context(), job)
			})
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&address, "containerd", stack.DefaultAddress, "where containerd listens")
	local.add(cmd.Flags(), &f.job.Output)
	return cmd
}

func (a *app) submitCommitCommand() *cobra.Command {
	var f commitFlags
	var s submission
	cmd := &cobra.Command{
		Use:   "commit CONTAINER DST",
		Short: "Make an image of a container in the pool",
		Long: `Make an image of a container on a node of the pool: one whose worker was started with
--containerd. See lithify commit.

stdout gets the job's ID; with --wait it gets DST@DIGEST, as from lithify commit.`,
		Example: `  lithify submit commit --wait --node node-7 web-1 registry.example.com/web:patched`,
		Args:    exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := f.args(args[0], args[1])
			if err != nil {
				return err
			}
			if job.Node == "" {
				return usageError{errors.New("--node is missing: which machine has the container?")}
			}
			return a.submit(cmd.Context(), &s, func() (jobs.Args, error) { return job, nil })
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.job.Node, "node", "", "machine that has the container, by its host name or what its worker calls it (--node)")
	cmd.Flags().StringVar(&f.job.LedgerRepo, "ledger-repo", convertjob.DefaultLedgerRepo, "repository of DST's registry in which converted layers are found again; empty for none")
	s.add(cmd.Flags())
	return cmd
}

type commitFlags struct {
	job   commitjob.Args
	pause bool
}

func (f *commitFlags) add(fs *pflag.FlagSet) {
	j := &f.job
	fs.StringVar(&j.Namespace, "namespace", stack.DefaultNamespace, "containerd's namespace of the container; Kubernetes' is k8s.io")
	fs.BoolVar(&f.pause, "pause", true, "pause the container while it is read")
	fs.StringVar(&j.Message, "message", "", "comment of the new layer in the image's history")
	fs.StringVar(&j.Author, "author", "", "author of the image")
	fs.StringArrayVar(&j.Changes, "change", nil, "Dockerfile instruction for the config, as 'CMD [\"run\"]'; may be repeated")
	fs.StringVar(&j.Compression, "compression", "gzip", "of the new layer's tar: gzip, zstd or none")
	fs.StringArrayVar(&j.Exclude, "exclude", nil, "pattern of names to leave out, as run/* or var/log/*.log; may be repeated")
	addOutputFlags(fs, &j.Output)
}

func (f *commitFlags) args(container, dst string) (commitjob.Args, error) {
	j := f.job
	j.Container, j.Target, j.Running = container, dst, !f.pause
	var err error
	if j.Epoch, err = sourceDateEpoch(); err != nil {
		return j, usageError{err}
	}
	if err := j.Validate(); err != nil {
		return j, usageError{err}
	}
	if err := (commit.Options{Changes: j.Changes, Exclude: j.Exclude}).Validate(); err != nil {
		return j, usageError{err}
	}
	return j, checkOutput(j.Output)
}

// sourceDateEpoch reads the variable of reproducible-builds.org/specs/source-date-epoch.
func sourceDateEpoch() (time.Time, error) {
	s, ok := os.LookupEnv("SOURCE_DATE_EPOCH")
	if !ok || s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, fmt.Errorf("$SOURCE_DATE_EPOCH %q: want seconds since 1970", s)
	}
	return time.Unix(n, 0).UTC(), nil
}
