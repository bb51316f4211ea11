package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/jobs"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	restorejob "github.com/lithify/lithify/jobs/restore"
	restorerun "github.com/lithify/lithify/jobs/restore/run"
	"github.com/lithify/lithify/restore"
	checkpoints "github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/set"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const restoreLong = `Make a running container of a checkpoint image, in this machine's containerd.

SRC is a registry reference or oci:DIR[:TAG], of an image that lithify checkpoint, or
another engine, has made. Its processes go on where they were, with their memory, in a
container of the name --name. The image that they stood on is pulled by its digest if
containerd has not got it. Of a set (lithify checkpoint --set) all containers are restored, as
NAME-CONTAINER, or none.

Memory comes as it was, and whoever made the checkpoint decides what runs: restore only
what comes from where you trust. The container's spec is made of the options and the base
image; hooks, devices, mounts, capabilities and security settings of the checkpoint are not
used. What was mounted from the other machine is given with --mount.`

const restoreExample = `  lithify restore --name web-2 registry.example.com/web:checkpoint
  lithify restore --name web-3 --hostname web-3 --mount /srv/web:/data --network host SRC`

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	var address, root, cache string
	var keys, decrypt, secrets []string
	var cni restore.CNI
	var localCopy bool
	cmd := &cobra.Command{
		Use:     "restore SRC",
		Short:   "Make a running container of a checkpoint here, without a queue",
		Long:    restoreLong,
		Example: restoreExample,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := secretFiles(secrets)
			if err != nil {
				return usageError{err}
			}
			f.job.Secrets = slices.Sorted(maps.Keys(files))
			job, err := f.args(args[0])
			if err != nil {
				return err
			}
			rule := restorerun.Anything
			rule.LocalCopy = localCopy
			for _, file := range keys {
				key, err := convertrun.LoadPublicKey(file)
				if err != nil {
					return usageError{err}
				}
				rule.Keys = append(rule.Keys, key)
			}
			size, err := restorerun.ParseSize(cache)
			if err != nil {
				return usageError{fmt.Errorf("--restore-cache-size %q: %w", cache, err)}
			}
			private, err := restorerun.LoadKeys(decrypt...)
			if err != nil {
				return usageError{fmt.Errorf("--decrypt-with: %w", err)}
			}
			h := restorerun.Handler{
				Decrypt: private,
				Cache:   size,
				Convert: convertrun.Handler{AllowFiles: true, Log: a.log},
				Address: address,
				Root:    root,
				Policy:  restorerun.Policy{rule},
				CNI:     cni,
				Secret:  func(id string) (string, error) { return files[id], nil },
			}
			rs, isSet, err := h.RunAll(cmd.Context(), job)
			if err != nil {
				return err
			}
			return a.printAllRestored(rs, isSet)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&address, "containerd", stack.DefaultAddress, "where containerd listens")
	cmd.Flags().StringArrayVar(&keys, "key", nil, "PEM file with an Ed25519 public key that may have signed SRC, which has to be signed then; may be repeated")
	cmd.Flags().StringArrayVar(&decrypt, "decrypt-with", nil, "PEM file with private keys, one of them of somebody for whom SRC is encrypted; may be repeated")
	cmd.Flags().BoolVar(&localCopy, "local-copy", false, "where SRC has a digest: restore what was restored here before with this flag also while the registry does not answer, which may let nobody have it any more")
	cmd.Flags().StringVar(&cni.ConfDir, "cni-conf-dir", restore.DefaultConfDir, "where CNI networks are configured; the first .conflist counts")
	cmd.Flags().StringSliceVar(&cni.BinDirs, "cni-bin-dir", []string{restore.DefaultBinDir}, "where the CNI plugins are; may be repeated")
	cmd.Flags().StringArrayVar(&secrets, "secret", nil, "id=ID,src=FILE, to be /run/lithify/secrets/ID in the container; may be repeated")
	cmd.Flags().StringVar(&cache, "restore-cache-size", units.BytesSize(restore.DefaultCache), "how much the checkpoints may take that stay unpacked in --restore-root; those used longest ago go first")
	cmd.Flags().StringVar(&root, "restore-root", restore.DefaultRoot, "where checkpoints are kept unpacked; containerd has to see it, too")
	return cmd
}

func (a *app) submitRestoreCommand() *cobra.Command {
	var f restoreFlags
	s := submission{result: printed(a.printRestored)}
	cmd := &cobra.Command{
		Use:   "restore SRC",
		Short: "Make a running container of a checkpoint in the pool",
		Long: `Make a running container of a checkpoint on a node of the pool: one whose worker was
started with --containerd and --restore. SRC is resolved to a digest now. See lithify restore.

stdout gets the job's ID; with --wait it gets the container's, as from lithify restore.`,
		Example: `  lithify submit restore --wait --node node-7 --name web-2 registry.example.com/web:checkpoint`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.job.Node == "" {
				return usageError{errors.New("--node is missing: on which machine?")}
			}
			return a.submit(cmd.Context(), &s, func() (jobs.Args, error) { return f.poolArgs(cmd.Context(), args[0]) })
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.job.Node, "node", "", "machine to restore on, by its host name or what its worker calls it (--node)")
	f.addSecret(cmd.Flags())
	s.add(cmd.Flags())
	return cmd
}

type restoreFlags struct {
	job     restorejob.Args
	mounts  []string
	envFile string
	check   checkFlags
}

// addSecret is of jobs: the workers have the secrets.
func (f *restoreFlags) addSecret(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.job.Secrets, "secret", nil, "ID of a secret that the worker has, to be /run/lithify/secrets/ID in the container; may be repeated")
}

func (f *restoreFlags) add(fs *pflag.FlagSet) {
	j := &f.job
	fs.StringVar(&j.Name, "name", "", "name and ID of the new container (required)")
	fs.StringVar(&j.Namespace, "namespace", stack.DefaultNamespace, "containerd's namespace for it; Kubernetes' is k8s.io")
	fs.StringVar(&j.Snapshotter, "snapshotter", "", "overlayfs or erofs (default containerd's, overlayfs)")
	fs.StringVar(&j.Network, "network", string(restore.NoNetwork), "none; cni, one from the machine's CNI plugins; or host, if it was that")
	fs.StringVar(&j.Hostname, "hostname", "", "host name for the container (default what it was)")
	fs.BoolVar(&j.TCPClose, "tcp-close", false, "have the processes find closed what TCP connections they had")
	fs.BoolVar(&j.TCPEstablished, "tcp-established", false, "have them go on with these, on the machine's network")
	fs.StringArrayVar(&f.mounts, "mount", nil, "SOURCE:TARGET[:ro], a file or directory of the machine and where it is mounted; may be repeated")
	fs.StringVar(&f.envFile, "env-file", "", "lines NAME=VALUE, to be /run/lithify/env in the container and in --refresh's environment: whoever sees the job sees them")
	fs.StringVar(&j.Refresh, "refresh", "", "script for the container's /bin/sh that is run once it is restored, and has to end well")
	fs.StringVar(&j.Signal, "signal", "", "send this to its first process then, as HUP")
	f.check.add(fs)
	fs.StringVar(&j.Base, "base", "", "NAME@DIGEST, image to stand on (default what the checkpoint names)")
	fs.DurationVar(&j.Limit, "limit", restore.DefaultTimeout, "give up if CRIU takes longer")
	fs.BoolVar(&j.Insecure, "insecure", false, "speak plain HTTP to the registries")
}

func (f *restoreFlags) args(src string) (restorejob.Args, error) {
	j := f.job
	j.Source = src
	for _, s := range f.mounts {
		m, err := parseMount(s)
		if err != nil {
			return j, usageError{err}
		}
		j.Mounts = append(j.Mounts, m)
	}
	var err error
	if j.Env, err = readEnv(f.envFile); err != nil {
		return j, usageError{err}
	}
	if err := j.Validate(); err != nil {
		return j, usageError{err}
	}
	j.Check = f.check.check()
	o := restore.Options{Name: j.Name, Network: restore.Network(j.Network), Signal: j.Signal}
	if err := checkOf(j, o).Validate(); err != nil {
		return j, usageError{err}
	}
	if err := registry.Check(src); err != nil {
		return j, usageError{err}
	}
	return j, nil
}

// parseMount reads SOURCE:TARGET[:ro], as docker's -v.
func parseMount(s string) (restorejob.Mount, error) {
	part := strings.Split(s, ":")
	ro := len(part) == 3 && part[2] == "ro"
	if len(part) != 2 && !ro {
		return restorejob.Mount{}, fmt.Errorf("--mount %q: want SOURCE:TARGET or SOURCE:TARGET:ro", s)
	}
	return restorejob.Mount{Source: part[0], Target: part[1], ReadOnly: ro}, nil
}

// readEnv reads a file of variables, as docker's --env-file. A name alone, which docker
// would look up here, is refused: a worker is somewhere else.
func readEnv(file string) (vars []string, err error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(raw)) {
		n++
		line = strings.TrimRight(strings.TrimLeft(line, " \t"), "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if strings.Index(line, "=") < 1 { // it is not shown: it may be half of a secret
			return nil, fmt.Errorf("--env-file %s: line %d: want NAME=VALUE", file, n)
		}
		vars = append(vars, line)
	}
	return vars, nil
}

// secretFiles reads id=ID,src=FILE, the words of lithify build.
func secretFiles(given []string) (files map[string]string, err error) {
	files = map[string]string{}
	for _, s := range given {
		id, file, ok := strings.Cut(strings.TrimPrefix(s, "id="), ",src=")
		if !ok || !strings.HasPrefix(s, "id=") || file == "" {
			return nil, fmt.Errorf("--secret %q: want id=ID,src=FILE", s)
		}
		if files[id] != "" {
			return nil, fmt.Errorf("--secret %s is given twice", id)
		}
		files[id] = file
	}
	return files, nil
}

// poolArgs are the args of a job. The checkpoint is resolved to a digest now; where one is named,
// the node may have a copy of it though the registry does not answer.
func (f *restoreFlags) poolArgs(ctx context.Context, src string) (restorejob.Args, error) {
	job, members, err := f.poolSet(ctx, src, func(ctx context.Context, h convertrun.Handler, a restorejob.Args) (restorejob.Args, []set.Container, error) {
		return restorerun.ResolveOne(ctx, h, a, restore.AskBriefly)
	})
	if err == nil && len(members) > 0 {
		err = usageError{fmt.Errorf("%s is a set of %d checkpoints: lithify submit rollout restores these together, on one node too", src, len(members))}
	}
	return job, err
}

// resolver is restorerun.Resolve, or made of ResolveOne.
type resolver func(context.Context, convertrun.Handler, restorejob.Args) (restorejob.Args, []set.Container, error)

// poolSet are the args of a job and, if the source is a set, its checkpoints.
func (f *restoreFlags) poolSet(ctx context.Context, src string, resolve resolver) (job restorejob.Args, members []set.Container, err error) {
	if src, err = registry.Absolute(src); err != nil { // a worker has another working directory
		return job, nil, usageError{err}
	}
	if job, err = f.args(src); err != nil {
		return job, nil, err
	}
	job, members, err = resolve(ctx, convertrun.Handler{}, job)
	return job, members, convertrun.WithKind(err)
}

// printAllRestored prints one as printRestored does; those of a set are a list.
func (a *app) printAllRestored(rs []*restore.Result, isSet bool) error {
	if a.output == "json" && isSet {
		return a.printJSON(rs)
	}
	for _, r := range rs {
		if err := a.printRestored(r); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printRestored(r *restore.Result) error {
	if a.output == "json" {
		return a.printJSON(r)
	}
	if r.Local != "" {
		fmt.Fprintln(a.err, "this machine's copy was restored, for the registry does not answer:", r.Local)
	}
	if r.Shared != nil {
		a.printShared(r.Shared)
	}
	_, err := fmt.Fprintln(a.out, r.Container)
	return err
}

// printShared tells in a few lines what clones have in common.
func (a *app) printShared(s *checkpoints.Shared) {
	fmt.Fprintln(a.err, "every container of this checkpoint has, beside what is in memory (random states, caches, keys):")
	list := func(what string, n int, names []string) {
		if n > 0 {
			const shown = 5
			if len(names) > shown {
				names = append(names[:shown:shown], "...")
			}
			for i, name := range names { // a stranger's
				names[i] = strings.Trim(strconv.Quote(name), `"`)
			}
			fmt.Fprintf(a.err, "  %d %s: %s\n", n, what, strings.Join(names, ", "))
		}
	}
	var pids, sockets []string
	for _, pid := range s.Processes {
		pids = append(pids, strconv.Itoa(pid))
	}
	for _, one := range s.Sockets {
		sockets = append(sockets, one.String())
	}
	list("process IDs", len(pids), pids)
	if s.Hostname != "" {
		list("hostname", 1, []string{s.Hostname})
	}
	list("environment variables", len(s.Env), slices.Clone(s.Env))
	list("sockets", len(sockets), sockets)
	list("open files of the machine", len(s.Files), slices.Clone(s.Files))
	list("deleted files", len(s.Deleted), slices.Clone(s.Deleted))
	if s.Timers > 0 {
		fmt.Fprintf(a.err, "  %d timers\n", s.Timers)
	}
}
