package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/telemetry"
	"github.com/spf13/cobra"
)

func (a *app) queueCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "queue", Short: "Move a pool with all its jobs to another server"}
	group(cmd)
	cmd.AddCommand(a.queueExport(), a.queueImport())
	return cmd
}

// store is where a pool's jobs lie: a server's, or a directory of lithify serve.
type store struct {
	poolFlags
	dir string
}

func (s *store) add(cmd *cobra.Command, nats, dir string) {
	fs := cmd.Flags()
	s.poolFlags.add(fs)
	fs.Lookup("nats").Usage = nats
	fs.StringVar(&s.dir, "dir", "", dir)
}

// one wants no more than one place.
func (s *store) one() error {
	if s.URL != "" && s.dir != "" {
		return usageError{errors.New("--nats and --dir exclude each other")}
	}
	return nil
}

// with calls f with a client of the pool, or of a server of its own for the directory.
func (s *store) with(ctx context.Context, a *app, f func(*queue.Client) error) (err error) {
	if s.URL == "" {
		nats, err := natsd.Start(natsd.Config{Dir: s.dir, InProcess: true, Log: a.log})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, nats.Stop()) }()
		keys := s.KeysFile
		if s.Config = nats.Client(); keys != "" {
			s.KeysFile = keys
		}
	}
	return a.withPool(ctx, &s.poolFlags, f)
}

func (a *app) transfer(verb string) queue.Transfer {
	last := time.Now()
	return queue.Transfer{Version: telemetry.Version(), Tell: func(c queue.Contents) {
		if now := time.Now(); now.Sub(last) >= 2*time.Second {
			last = now
			fmt.Fprintf(a.err, "%s so far: %v\n", verb, c)
		}
	}}
}

func (a *app) queueExport() *cobra.Command {
	var s store
	cmd := &cobra.Command{
		Use:   "export FILE|-",
		Short: "Write a pool to a file: jobs, histories, timetables, limits",
		Long: `Write a pool to a file that is not there yet, or to stdout: its jobs with their
results and histories, dead letters, timetables, limits and pauses. The pool stays as
it is. Its schedulers and workers are to be stopped first. A job that was running
is queued in the file, at no cost of an attempt. What jobs printed is left behind.

Without --nats it is the pool of "lithify serve" on this machine, which is to be
stopped.`,
		Example: `  lithify queue export pool.jsonl
  lithify queue export - | zstd > pool.jsonl.zst`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.one(); err != nil {
				return err
			}
			if err := s.exists(); err != nil {
				return err
			}
			return s.with(cmd.Context(), a, func(client *queue.Client) error {
				return a.export(cmd.Context(), client, args[0])
			})
		},
	}
	s.add(cmd, "NATS URL of the pool (default: that of --dir)", `store of "lithify serve" (default in the user's cache directory)`)
	return cmd
}

// exists refuses to make a store in order to export it.
func (s *store) exists() (err error) {
	if s.URL != "" {
		return nil
	}
	if s.dir == "" {
		if s.dir, err = natsd.DefaultDir(); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "jetstream")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no pool is stored in %s, see --dir and --nats: %w", s.dir, errdefs.ErrNotFound)
	}
	return nil
}

func (a *app) export(ctx context.Context, client *queue.Client, file string) error {
	if file == "-" {
		found, err := client.Export(ctx, a.out, a.transfer("exported"))
		if err == nil {
			fmt.Fprintf(a.err, "exported %v\n", found)
		}
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	found, err := client.Export(ctx, f, a.transfer("exported"))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	if a.output == "json" {
		return a.printJSON(found)
	}
	_, err = fmt.Fprintf(a.out, "exported %v\n", found)
	return err
}

func (a *app) queueImport() *cobra.Command {
	var s store
	var replicas int
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Write what was exported into another pool",
		Long: `Write what "lithify queue export" wrote into a pool, and make its streams if there are
none. The schedulers are to be started when it is over: timetables are in force, and
jobs are admitted, from then on.

What the pool has already is not overwritten: what is the same is passed over, so
an import that was interrupted is done again; what is not is named, and the exit
code is 1. A file that was cut off is refused before anything is written; of what
comes by a pipe the beginning is written.

Results are signed by the workers of the old pool. The new one believes them if its
file of keys (--pool-keys) lists these workers' too; keys that it does not list are
named. A "lithify serve" believes the key of its store alone, client.nk.`,
		Example: `  lithify queue import --nats nats://n1,nats://n2,nats://n3 --nkey scheduler.nk --replicas 3 pool.jsonl
  zstd -dc pool.jsonl.zst | lithify queue import --nats nats://n1 -`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.URL == "" && s.dir == "" {
				return usageError{errors.New("want --nats or --dir: where to import to")}
			}
			if err := s.one(); err != nil {
				return err
			}
			if replicas < 1 {
				return usageError{fmt.Errorf("--replicas %d is not above zero", replicas)}
			}
			in, err := archive(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer in.Close()
			return s.with(cmd.Context(), a, func(client *queue.Client) error {
				t := a.transfer("imported")
				t.Replicas = replicas
				im, err := client.Import(cmd.Context(), in, t)
				return a.printImported(im, archiveError(err))
			})
		},
	}
	s.add(cmd, "NATS URL of the pool", `store of a "lithify serve" that does not run; made if it is not there`)
	cmd.Flags().IntVar(&replicas, "replicas", 1, "replicas of the streams that are made: 3 on a cluster")
	return cmd
}

// archive opens what is to be imported. What can be read twice is read to its end
// first.
func archive(file string, stdin io.Reader) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(stdin), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return f, err
	}
	if _, err = queue.CheckArchive(f); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, archiveError(err)), f.Close())
	}
	return f, nil
}

// archiveError makes a wrong argument of a file that is no archive: exit code 3 is for
// images.
func archiveError(err error) error {
	if errdefs.IsInvalidArgument(err) {
		return usageError{err}
	}
	return err
}

func (a *app) printImported(im queue.Imported, err error) error {
	if err != nil && len(im.Different) == 0 {
		return err
	}
	if len(im.Strangers) > 0 {
		fmt.Fprintf(a.err, "no key of --pool-keys signed some of the results, they count as failures: add to its workers %s\n", strings.Join(im.Strangers, ", "))
	}
	if a.output == "json" {
		return errors.Join(a.printJSON(im), err)
	}
	_, perr := fmt.Fprintf(a.out, "imported %v; %d of them were there already\n", im.Contents, im.Present)
	return errors.Join(perr, err)
}
