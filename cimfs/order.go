package cimfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// order is what a process is to write: the CIM of a layer whose tar it reads, or one that
// joins others.
type order struct {
	File string `json:"file"` // of the block
	Name string `json:"name"` // of the CIM in it
	// Hives is the directory of the parent's; "" of a base layer.
	Hives string `json:"hives,omitempty"`
	// Sources are the blocks to join, the topmost first.
	Sources []string `json:"sources,omitempty"`
}

// written is what it says of it.
type written struct {
	RootHash string `json:"rootHash"`
	Writer   Writer `json:"writer"`
}

// Write writes one CIM, as a [Chain] says in arg, of the tar that stdin reads, and says of it
// on stdout what the chain wants to know. It is all that the chain's command does.
func Write(ctx context.Context, arg string, stdin io.Reader, stdout io.Writer) error {
	var o order
	if err := json.Unmarshal([]byte(arg), &o); err != nil {
		return fmt.Errorf("what to write: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	w, err := o.write(ctx, stdin)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(w)
}

// maxSaid bounds what is kept of a process' words, in bytes.
const maxSaid = 16 << 10

// run has the command write b. An error says what the process said last.
func (c *Chain) run(ctx context.Context, b *Block, o order, tar io.Reader) error {
	if len(c.command) == 0 || !canWrite {
		return errNotWindows
	}
	o.File, o.Name = b.Path, b.Name
	arg, err := json.Marshal(o)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.command[0], append(c.command[1:len(c.command):len(c.command)], string(arg))...)
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tar, &stdout, &last{&stderr}
	err = cmd.Run()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return fmt.Errorf("writing %s: %w: %s", b.Name, err, lastLine(stderr.String()))
		}
		return fmt.Errorf("writing %s: %w", b.Name, err)
	}
	var w written
	if err := json.Unmarshal(stdout.Bytes(), &w); err != nil {
		return fmt.Errorf("writing %s: what %s said: %w", b.Name, c.command[0], err)
	}
	b.RootHash, b.Writer = w.RootHash, w.Writer
	return nil
}

// last keeps the end of what is written to it.
type last struct{ *bytes.Buffer }

func (l *last) Write(p []byte) (int, error) {
	n, err := l.Buffer.Write(p)
	if l.Len() > 2*maxSaid {
		l.Next(l.Len() - maxSaid)
	}
	return n, err
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}
