package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/jobs"
	checkpointjob "github.com/lithify/lithify/jobs/checkpoint"
	checkpointrun "github.com/lithify/lithify/jobs/checkpoint/run"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/restore/checkpoint"
	"github.com/lithify/lithify/restore/encrypt"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const checkpointLong = `Make a checkpoint image of a running container of this machine's containerd: the memory
of its processes and the files it has changed, of one instant. lithify restore makes a
container of it that goes on from there, here or on another machine.

CONTAINER is an ID, the beginning of one, or a name that nerdctl gave. DST is a registry
reference with a tag, or oci:DIR[:TAG]. CRIU has to be where containerd's runtime finds it.

The container is paused while that is read, and runs on before anything is pushed; also if
this command is killed. With --set several containers are checkpointed together: none runs
on before the last has been read, and DST names the set of their images, see lithify
checkpoint show. An image of memory holds what was in memory, passwords too: push it
where only those can pull it who may see them, or encrypt it to their keys with --encrypt-to.`

const checkpointExample = `  lithify checkpoint web-1 registry.example.com/web:checkpoint
  lithify checkpoint --set web-1 cache-1 registry.example.com/shop:checkpoint
  lithify checkpoint --encrypt-to ops.pub.pem web-1 registry.example.com/web:checkpoint
  lithify checkpoint --stop --namespace k8s.io 3f2a DST`

func (a *app) checkpointCommand() *cobra.Command {
	var f checkpointFlags
	var address, tempDir, key string
	cmd := &cobra.Command{
		Use:     "checkpoint CONTAINER... DST",
		Short:   "Make an image of a running container's memory and files here, without a queue",
		Long:    checkpointLong,
		Example: checkpointExample,
		Args:    f.wanted,
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := f.args(args)
			if err != nil {
				return err
			}
			h := convertrun.Handler{AllowFiles: true, TempDir: tempDir, Log: a.log}
			if h.SigningKey, err = signKey(key); err != nil {
				return err
			}
			run := checkpointrun.Handler{
				Convert: h,
				Address: address,
				Frozen: func(d time.Duration) {
					fmt.Fprintf(a.err, "container was paused for %v\n", d.Round(time.Millisecond))
				},
			}
			if f.set {
				r, err := run.RunSet(cmd.Context(), job)
				if err != nil {
					return err
				}
				return a.printSet(r)
			}
			r, err := run.Run(cmd.Context(), job)
			if err != nil {
				return err
			}
			return a.printCheckpoint(r)
		},
	}
	cmd.AddCommand(a.importCheckpointCommand(), a.pruneCheckpointsCommand(), a.showCheckpointCommand())
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&address, "containerd", stack.DefaultAddress, "where containerd listens")
	addSignKey(cmd.Flags(), &key)
	cmd.Flags().StringVar(&tempDir, "temp-dir", "", "where memory lies until it is pushed; containerd has to see it, too (default $TMPDIR)")
	return cmd
}

func (a *app) submitCheckpointCommand() *cobra.Command {
	var f checkpointFlags
	s := submission{}
	cmd := &cobra.Command{
		Use:   "checkpoint CONTAINER... DST",
		Short: "Make an image of a running container's memory and files in the pool",
		Long: `Make a checkpoint image of a container on a node of the pool: one whose worker was started
with --containerd. See lithify checkpoint.

stdout gets the job's ID; with --wait it gets DST@DIGEST, as from lithify checkpoint.`,
		Example: `  lithify submit checkpoint --wait --node node-7 web-1 registry.example.com/web:checkpoint`,
		Args:    f.wanted,
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := f.args(args)
			if err != nil {
				return err
			}
			if s.result = printed(a.printCheckpoint); f.set {
				s.result = printed(a.printSet)
			}
			if job.Node == "" {
				return usageError{errors.New("--node is missing: which machine has the container?")}
			}
			return a.submit(cmd.Context(), &s, func() (jobs.Args, error) { return job, nil })
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.job.Node, "node", "", "machine that has the container, by its host name or what its worker calls it (--node)")
	s.add(cmd.Flags())
	return cmd
}

type checkpointFlags struct {
	job       checkpointjob.Args
	set       bool
	encryptTo []string
}

func (f *checkpointFlags) add(fs *pflag.FlagSet) {
	j := &f.job
	fs.StringVar(&j.Namespace, "namespace", stack.DefaultNamespace, "containerd's namespace of the container; Kubernetes' is k8s.io")
	fs.BoolVar(&j.Stop, "stop", false, "end the container once the image is published; it stands still until then")
	fs.BoolVar(&j.TCPEstablished, "tcp-established", false, "dump open TCP connections, too, which takes iptables; without it CRIU refuses them")
	fs.BoolVar(&j.FileLocks, "file-locks", false, "dump locks of files, too; without it CRIU refuses them")
	fs.BoolVar(&j.Split, "split", false, "publish memory in chunks: where DST names such a checkpoint, what that has is not moved again, unless it is encrypted; lithify alone restores it")
	fs.StringArrayVar(&f.encryptTo, "encrypt-to", nil, "PEM file with a public key, RSA or EC, or a certificate, RSA, of one who can read the image, as of ocicrypt (jwe:, pkcs7:); may be repeated (default whoever can pull it)")
	fs.BoolVar(&j.Insecure, "insecure", false, "speak plain HTTP to the registry")
	f.addSet(fs)
}

func (f *checkpointFlags) args(args []string) (checkpointjob.Args, error) {
	j, dst := f.job, args[len(args)-1]
	j.Container, j.Target = args[0], dst
	if f.set {
		j.Container, j.Set = "", args[:len(args)-1]
	}
	for _, file := range f.encryptTo {
		key, err := recipient(file)
		if err != nil {
			return j, usageError{fmt.Errorf("--encrypt-to %s: %w", file, err)}
		}
		j.EncryptTo = append(j.EncryptTo, key)
	}
	if err := j.Validate(); err != nil {
		return j, usageError{err}
	}
	if _, err := registry.Create(dst, registry.Options{}); err != nil { // makes nothing before it is written to
		return j, usageError{err}
	}
	return j, nil
}

// recipient reads a public key or a certificate, by the names that ctr and skopeo have for
// them, too.
func recipient(file string) (string, error) {
	way, rest, ok := strings.Cut(file, ":")
	switch {
	case ok && (way == "jwe" || way == "pkcs7"):
		file = rest
	case ok && slices.Contains([]string{"pgp", "pkcs11", "provider"}, way):
		return "", fmt.Errorf("to keys of %s nothing is encrypted here; give a public key, as jwe:FILE, or a certificate, as pkcs7:FILE", way)
	default:
		way = ""
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if certificate := bytes.Contains(raw, []byte("-----BEGIN CERTIFICATE-----")); way == "jwe" && certificate || way == "pkcs7" && !certificate {
		return "", errors.New("jwe:FILE wants a public key, and pkcs7:FILE a certificate")
	}
	_, err = encrypt.ParseRecipients(string(raw))
	return string(raw), err
}

func addSignKey(fs *pflag.FlagSet, file *string) {
	fs.StringVar(file, "sign-key", "", "PEM file with an Ed25519 key that signs the image (default it is not signed)")
}

// signKey is nil if there is no file.
func signKey(file string) (ed25519.PrivateKey, error) {
	if file == "" {
		return nil, nil
	}
	key, err := convertrun.LoadKey(file)
	if err != nil {
		return nil, usageError{err}
	}
	return key, nil
}

func (a *app) printCheckpoint(r *checkpoint.Result) error {
	if a.output == "json" {
		return a.printJSON(r)
	}
	_, err := fmt.Fprintf(a.out, "%s@%s\n", r.Target, r.Descriptor.Digest)
	return err
}

// printed prints a job's result as the command does that runs it here.
func printed[R any](print func(*R) error) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		var r R
		if err := json.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("result of the job: %w", err)
		}
		return print(&r)
	}
}
