package corpus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Source makes a layer.
type Source struct {
	from string // what it is made from: a change makes a new layer
	// fill writes the tar; dir is empty space that is thrown away but for the tar.
	fill func(ctx context.Context, dir, tar string) (made string, err error)
}

func (s Source) key() string {
	sum := sha256.Sum256([]byte(s.from))
	return fmt.Sprintf("%x", sum[:6])
}

// Sources are the layers by name.
var Sources = map[string]Source{
	// A root file system, as a base image has it.
	"debian": {from: "1 " + strings.Join(minbase, " "), fill: debian(minbase)},
	// A large root file system with compilers: about 500 MB.
	"devel": {from: "1 " + strings.Join(devel, " "), fill: debian(devel)},
	// Tens of thousands of small files: more than 500 MB.
	"node_modules": {from: "1 " + strings.Join(npmPackages, " "), fill: nodeModules},
	// About 240 MB.
	"go": {from: "1 " + runtime.Version(), fill: toolchain},
	// Every kind of entry, see odd.go.
	"odd": {from: fmt.Sprint(oddVersion), fill: odd},
}

// Real are the layers that come from real trees.
var Real = []string{"debian", "devel", "node_modules", "go"}

var (
	minbase = []string{"--variant=minbase"}
	devel   = []string{"--variant=minbase", "--include=python3,gcc,g++,git"}
)

// debian makes a root of Debian 13 by mmdebstrap.
func debian(args []string) func(context.Context, string, string) (string, error) {
	return func(ctx context.Context, dir, tar string) (string, error) {
		args := append(append([]string{"--quiet", "--mode=root", "--format=tar"}, args...), "trixie", tar)
		if os.Getuid() != 0 {
			return "", fmt.Errorf("%w: mmdebstrap needs root", ErrUnavailable)
		}
		return "mmdebstrap " + strings.Join(args[:len(args)-1], " "), command(ctx, dir, "mmdebstrap", args...)
	}
}

// toolchain packs the tree of the go command as an image has it. Its parents are
// not in the tar, as in a layer made by hand.
func toolchain(ctx context.Context, _, tar string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	root := strings.TrimSpace(string(out))
	return runtime.Version() + " in " + root, pack(tar, root, "usr/local/go")
}

// npmPackages are large and pinned; what they depend on is as the registry
// answers that day.
var npmPackages = []string{
	"typescript@5.4.5", "aws-sdk@2.1615.0", "googleapis@137.1.0", "three@0.164.1",
	"date-fns@3.6.0", "rxjs@7.8.1", "core-js@3.37.0", "lodash@4.17.21", "antd@5.17.0",
	"react-icons@5.2.0", "webpack@5.91.0", "jest@29.7.0", "eslint@8.57.0", "next@14.2.3", "react@18.3.1",
	"react-dom@18.3.1", "@babel/preset-env@7.24.5",
}

// nodeModules installs npmPackages; where npm or its registry is not to be had it
// makes up a tree of the same shape.
func nodeModules(ctx context.Context, dir, tar string) (string, error) {
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	defer os.RemoveAll(tree)
	if err := os.WriteFile(filepath.Join(tree, "package.json"), []byte(`{"private":true}`), 0o644); err != nil {
		return "", err
	}
	args := append([]string{"install", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional", "--no-package-lock", "--loglevel=error"}, npmPackages...)
	made := "npm install " + strings.Join(npmPackages, " ")
	if err := command(ctx, tree, "npm", args...); err != nil {
		made = fmt.Sprintf("generated, because %v", err)
		if err := generate(filepath.Join(tree, "node_modules")); err != nil {
			return "", err
		}
	}
	return made, pack(tar, filepath.Join(tree, "node_modules"), "app/node_modules")
}

// command runs a program and puts what it wrote into the error.
func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w: no %s", ErrUnavailable, name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out.Bytes()[max(0, out.Len()-1000):]))
	}
	return nil
}
