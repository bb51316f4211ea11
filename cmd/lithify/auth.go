package main

import (
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/queue/auth"
	"github.com/lithify/lithify/queue/worker"
	"github.com/spf13/cobra"
)

func (a *app) authCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "auth", Short: "Make the keys of a pool of many machines"}
	group(cmd)
	cmd.AddCommand(a.authInit())
	return cmd
}

func (a *app) authInit() *cobra.Command {
	var cfg auth.Config
	var workers []string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Write certificates, keys and server configuration into an empty directory",
		Long: `Write all that a pool needs whose workers do not trust each other: a CA and
certificates for TLS, a key for the scheduler, for those who submit and for each
worker, and the configuration of the NATS server, or of each server of a cluster.
Nothing is ever written over. What the files are for, and which commands to give,
is printed.

Each --worker gets a key and a NATS account of its own: it reaches the messages of
its classes and the jobs of their kinds, and nothing else. Workers that trust each
other may share one.`,
		Example: `  lithify auth init ./auth
  lithify auth init ./auth --host nats.example.com --worker linux --worker arm=convert/linux/arm64,layer
  lithify auth init ./auth --cluster n1.example.com,n2.example.com,n3.example.com`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			cfg.Dir = args[0]
			if cfg.Workers, err = parseWorkers(workers); err != nil {
				return usageError{err}
			}
			if len(cfg.Hosts) == 0 && len(cfg.Cluster) == 0 {
				cfg.Hosts = []string{"localhost", "127.0.0.1", "::1"}
			}
			made, err := auth.Init(cfg)
			if errdefs.IsInvalidArgument(err) {
				return usageError{err}
			}
			if err != nil {
				return err
			}
			return a.printAuth(cfg, made)
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&cfg.Hosts, "host", nil, "name or address of the server, as clients call it; may be repeated (default this machine's)")
	fs.StringSliceVar(&cfg.Cluster, "cluster", nil, "names of the servers of a cluster: three, or five")
	fs.StringArrayVar(&workers, "worker", []string{"workers"}, "NAME or NAME=CLASS,...: a worker with a key of its own, and the classes it serves (default every kind on this platform); may be repeated")
	fs.StringVar(&cfg.Store, "store", "/var/lib/nats", "directory of the servers' data")
	fs.StringVar(&cfg.TLSCert, "tls-cert", "", "PEM file with a server certificate of your own")
	fs.StringVar(&cfg.TLSKey, "tls-key", "", "PEM file with its key")
	fs.StringVar(&cfg.TLSCA, "tls-ca", "", "PEM file with the certificates that it is checked against")
	return cmd
}

// parseWorkers reads NAME or NAME=CLASS,...
func parseWorkers(specs []string) (ws []auth.Worker, err error) {
	for _, s := range specs {
		name, list, given := strings.Cut(s, "=")
		w := auth.Worker{Name: name, Classes: worker.Classes(anywhere())}
		if given {
			if w.Classes, err = parseClasses(list); err != nil {
				return nil, fmt.Errorf("--worker %s: %w", s, err)
			}
		}
		for _, c := range w.Classes {
			w.Submits = append(w.Submits, all.Children(c.Kind)...)
		}
		ws = append(ws, w)
	}
	return ws, nil
}

func parseClasses(list string) (cs []jobs.Class, err error) {
	kinds := all.Validators()
	for part := range strings.SplitSeq(list, ",") {
		c, err := jobs.ParseClass(part)
		if err != nil {
			return nil, err
		}
		if kinds[c.Kind] == nil {
			return nil, fmt.Errorf("no kind %q, want one of %v", c.Kind, slices.Sorted(maps.Keys(kinds)))
		}
		cs = append(cs, c)
	}
	return cs, nil
}

const ledgerKeyFile = "ledger.pem"

// printAuth says what each file is for, and what to do now.
func (a *app) printAuth(cfg auth.Config, made auth.Result) error {
	dir := filepath.Dir(made.Servers[0])
	if _, err := convertrun.EnsureKey(filepath.Join(dir, ledgerKeyFile)); err != nil {
		return err
	}
	made.Files = append(made.Files, auth.File{Path: filepath.Join(dir, ledgerKeyFile), For: "the pool's key for ledger records, for every worker (--ledger-key)"})
	if a.output == "json" {
		return a.printJSON(made)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, f := range made.Files {
		fmt.Fprintf(w, "%s\t%s\n", f.Path, f.For)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printCommands(a.out, cfg, made, dir)
}

func printCommands(out io.Writer, cfg auth.Config, made auth.Result, dir string) error {
	urls := natsURLs(cfg)
	flags := func(key string) string {
		return fmt.Sprintf("--nats %s --tls-ca %s --nkey %s --pool-keys %s", urls, made.CA, filepath.Join(dir, key), filepath.Join(dir, auth.PublicKeys))
	}
	replicas, where := "", "the server"
	if len(cfg.Cluster) > 0 {
		replicas, where = " --replicas 3", "the servers, each on its machine, with its certificate and key at the same paths"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nStart %s:\n", where)
	for _, s := range made.Servers {
		fmt.Fprintf(&b, "  nats-server -c %s\n", s)
	}
	fmt.Fprintf(&b, "\nThe scheduler:\n  lithify-scheduler%s %s\n", replicas, flags(auth.SchedulerKey))
	b.WriteString("\nWorkers, each with its own key and the ledger's and no other:\n")
	for _, w := range cfg.Workers {
		fmt.Fprintf(&b, "  lithify-worker %s --ledger-key %s\n", flags(auth.WorkerKey(w.Name)), filepath.Join(dir, ledgerKeyFile))
	}
	fmt.Fprintf(&b, "\nJobs:\n  lithify submit convert --wait %s SRC DST\n", flags(auth.ClientKey))
	_, err := io.WriteString(out, b.String())
	return err
}

// natsURLs is where the servers listen; of one with several names the first will do.
func natsURLs(cfg auth.Config) string {
	hosts := cfg.Cluster
	if len(hosts) == 0 {
		hosts = cfg.Hosts[:1]
	}
	var urls []string
	for _, h := range hosts {
		urls = append(urls, "tls://"+net.JoinHostPort(h, auth.Port))
	}
	return strings.Join(urls, ",")
}

// anywhere are the kinds of jobs that any node can run.
func anywhere() []string {
	kinds := slices.Sorted(maps.Keys(all.Validators()))
	return slices.DeleteFunc(kinds, all.Bound)
}
