package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/queue"
)

// consoleKey is the file beside the pool's store with what the page of lithify serve asks for.
const consoleKey = "console.key"

// webPage listens where the page of lithify serve is to be, and gives what serves it.
func (a *app) webPage(ctx context.Context, s server, client *queue.Client) (run func(context.Context) error, err error) {
	if s.http == "" {
		return func(context.Context) error { return nil }, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.http)
	if err != nil {
		return nil, fmt.Errorf("--http: %w", err)
	}
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return nil, errors.Join(usageError{fmt.Errorf("--http %s: others reach this address, and the key would go there in the clear: lithify console speaks TLS", s.http)}, l.Close())
	}
	file := filepath.Join(s.dir, consoleKey)
	key, err := ensureSecret(file)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	fmt.Fprintf(a.out, "page at http://%s/, its key is in %s\n", l.Addr(), file)
	return func(ctx context.Context) error {
		return console.New(client, console.Config{}.WithOperator(key), a.log).Run(ctx, l, "", "")
	}, nil
}

// ensureSecret reads a file that only its owner can, and makes it if it is not there or a
// crash has left it empty.
func ensureSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if secret := strings.TrimSpace(string(b)); err == nil && secret != "" {
		return secret, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	secret := rand.Text()
	return secret, os.WriteFile(path, []byte(secret+"\n"), 0o600)
}
