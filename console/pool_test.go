package console_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// startPool is a pool in this process whose worker does with convert jobs what h says.
func startPool(t *testing.T, h jobs.Handler[convertjob.Args]) *queue.Client {
	t.Helper()
	client, log, run := startQueue(t, slog.LevelDebug)
	var m jobs.Mux
	jobs.Handle(&m, h)
	w, err := worker.New(client, &m, worker.Config{Slots: 4, Grace: time.Millisecond, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	run(w.Run)
	return client
}

// startQueue is a queue in this process with its scheduler, and runs what it is given until the
// test ends.
func startQueue(t *testing.T, level slog.Level) (client *queue.Client, log *slog.Logger, run func(func(context.Context) error)) {
	t.Helper()
	log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))
	srv, err := natsd.Start(natsd.Config{Dir: t.TempDir(), ContextFile: "-", InProcess: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if client, err = queue.Connect(t.Context(), srv.Client()); err != nil {
		t.Fatal(err)
	}
	if err := client.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var g errgroup.Group
	t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		client.Close()
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	run = func(service func(context.Context) error) { g.Go(func() error { return service(ctx) }) }
	run(scheduler.New(client, all.Validators(), scheduler.Config{Log: log}).Run)
	return client, log, run
}

const secret = "a secret of the host"

// load writes a configuration and reads it.
func load(t *testing.T, text string) (console.Config, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "console.yaml")
	for name, content := range map[string]string{file: text, filepath.Join(dir, "secret"): secret + "\n", filepath.Join(dir, "new"): "another secret of the host"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return console.Load(file)
}

// config grants the repositories of acme what they need, by issuer.
func config(issuer string) string {
	return strings.ReplaceAll(`
hooks:
- name: hub
  host: github
  secret_files: [secret, new]
  rules:
  - repository: acme/*
    ref: refs/heads/**
    submit:
      kind: convert
      tenant: acme
      timeout: 1h
      args:
        source: registry.example.com/$repository:$short
        target: registry.example.com/$repository:$name
issuers:
- url: ISSUER
  audience: https://lithify.example.com
  grants:
  - claims: {repository: acme/*, ref: refs/heads/main}
    kinds: [convert, build]
    reads: [registry.example.com/acme/*, index.docker.io/library/*, git.example.com/acme/*]
    writes: [registry.example.com/acme/*]
    tenant: acme
    priorities: [bulk]
  - claims: {repository: acme/hub}
    kinds: [convert]
    reads: [docker.io/library/*]
    writes: [docker.io/acme/*]
    tenant: hub
  - claims: {repository: acme/release}
    kinds: [convert]
    reads: [registry.example.com/**]
    writes: [registry.example.com/**]
    tenant: releases
    priorities: [interactive]
`, "ISSUER", issuer)
}

// serve runs the console of a pool.
func serve(t *testing.T, client *queue.Client, cfg console.Config) *httptest.Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	srv := httptest.NewServer(console.New(client, cfg, log).Handler())
	t.Cleanup(srv.Close)
	return srv
}
