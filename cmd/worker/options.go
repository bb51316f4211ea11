package main

import (
	"flag"
	"fmt"
	"runtime"
	"strings"

	"github.com/lithify/lithify/flagfile"
	buildrun "github.com/lithify/lithify/jobs/build/run"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	restorerun "github.com/lithify/lithify/jobs/restore/run"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/worker"
)

// options are what the flags say, or in their place the environment and a file.
type options struct {
	queue      queue.Config
	worker     worker.Config
	convert    convertrun.Handler
	build      buildrun.Config
	restore    restorerun.Config
	containerd string
	verbose    bool

	config   string // the file's path
	outdated []flagfile.Warning
}

// parse ends the program if a flag is wrong, or --help.
func parse(args []string) (*options, error) {
	var o options
	fs, load := o.flags()
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	return &o, load()
}

// flags are those of the options. Once they are parsed, load gives them what else there is.
func (o *options) flags() (_ *flag.FlagSet, load func() error) {
	fs := flag.NewFlagSet("lithify-worker", flag.ExitOnError)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "Usage of lithify-worker%s:\n", serviceUsage)
		fs.PrintDefaults()
	}
	o.queue.AddFlags(fs)
	o.build.AddFlags(fs)
	o.restore.AddFlags(fs)
	fs.StringVar(&o.worker.Name, "name", "", "this worker's name, unique in the pool (default made from the host's)")
	fs.IntVar(&o.worker.Slots, "slots", runtime.GOMAXPROCS(0), "jobs at a time")
	fs.IntVar(&o.worker.Reserve, "reserve", 0, "slots beside those that only interactive jobs use (default a tenth, at least 1)")
	fs.DurationVar(&o.worker.Grace, "grace", worker.DefaultGrace, "how long running jobs may go on when the worker is stopped")
	fs.StringVar(&o.convert.TempDir, "temp-dir", "", "where layers lie until they are pushed (default $TMPDIR)")
	fs.BoolVar(&o.convert.DenyPrivate, "deny-private", false, "refuse registries at loopback, link-local and private addresses")
	fs.BoolVar(&o.convert.AllowFiles, "allow-files", false, "let jobs name files of this machine: oci:, oci-archive: and docker-archive:")
	fs.StringVar(&o.containerd, "containerd", "", "where a containerd listens whose containers may be committed and checkpointed; with none no such jobs are taken")
	fs.StringVar(&o.worker.Node, "node", "", "this machine's name, by which jobs name it that are bound to it (default the host's)")
	fs.Var(&o.worker.Labels, "label", "KEY=VALUE, what this machine is called when some are chosen by their labels, as zone=a,disk=fast; may be given again")
	kinds := fs.String("kinds", "", "kinds of jobs to take, as build,convert (default all that it can)")
	ledgerKey := fs.String("ledger-key", "", "PEM file with the pool's Ed25519 key for ledger records and provenance of builds; with none the ledger is not used and provenance stays unsigned")
	fs.BoolVar(&o.verbose, "verbose", false, "log what is done, step by step")
	file := flagfile.Add(fs, "lithify-worker")
	return fs, func() (err error) {
		if fs.NArg() > 0 {
			return fmt.Errorf("unknown argument %q, see --help", fs.Arg(0))
		}
		if o.outdated, err = file.Load(); err != nil {
			return err
		}
		o.config = fs.Lookup("config").Value.String()
		if *kinds != "" {
			o.worker.Kinds = strings.Split(*kinds, ",")
		}
		if *ledgerKey != "" {
			key, err := convertrun.LoadKey(*ledgerKey)
			if err != nil {
				return err
			}
			o.convert.SignWith(key)
		}
		return nil
	}
}
