package cimfs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
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

// orderEnv is set in a process that a chain has started.
const orderEnv = "LITHIFY_WRITE_CIM"

// RunWriter returns at once, but in a process that a [Chain] has started to write one CIM:
// that does it, of the tar on its stdin, says on stdout what the chain wants to know, and
// ends. A program that uses chains calls it first in main.
func RunWriter() {
	if os.Getenv(orderEnv) == "" {
		return
	}
	if err := runOrder(context.Background(), os.Stdin, os.Stdout); err != nil { // the chain kills it to end it
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runOrder reads an order, a line, and behind it the tar. In a variable Windows has no room for
// the names of many layers: 32767 characters.
func runOrder(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	tar := bufio.NewReader(stdin)
	raw, err := tar.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("reading what to write: %w", err)
	}
	var o order
	if err := json.Unmarshal(raw, &o); err != nil {
		return fmt.Errorf("reading what to write: %w", err)
	}
	w, err := o.write(ctx, tar)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(w)
}

// maxSaid bounds what is kept of a process' words, in bytes.
const maxSaid = 16 << 10

// run has a process write b. An error says what that said last. Nobody reads the tar any more
// when it returns: a process that is killed takes its pipes with it, so nothing else is waited
// for than the tar's reader.
func run(ctx context.Context, b *Block, o order, tar io.Reader) error {
	o.File, o.Name = b.Path, b.Name
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), orderEnv+"=1")
	cmd.Stdin = bytes.NewReader(append(raw, '\n'))
	if tar != nil {
		cmd.Stdin = io.MultiReader(cmd.Stdin, tar)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &last{&stderr}
	err = runBound(cmd)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return fmt.Errorf("writing %s: %w: %s", b.Name, err, wordOf(stderr.String()))
		}
		return fmt.Errorf("writing %s: %w", b.Name, err)
	}
	var w written
	if err := json.Unmarshal(stdout.Bytes(), &w); err != nil {
		return fmt.Errorf("writing %s: what its process said: %w", b.Name, err)
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

// crashes begin the line by which Go says that a process has crashed: the last ones are registers.
var crashes = []string{"panic: ", "fatal error: ", "Exception 0x"}

// wordOf is the line of a process' stderr that says why it has ended.
func wordOf(stderr string) (word string) {
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if slices.ContainsFunc(crashes, func(c string) bool { return strings.HasPrefix(line, c) }) {
			return line
		}
		if line != "" {
			word = line
		}
	}
	return word
}
