package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/console"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) consoleCommand() *cobra.Command {
	var p poolFlags
	var c consoleFlags
	cmd := &cobra.Command{
		Use:   "console --config FILE",
		Short: "Serve the pool's web page, its HTTP API, and Git hosts' webhooks",
		Long: `Serve the pool's web page to people who have one of its keys or a token, and its HTTP API
to those who have no key of its NATS: CI jobs, with the tokens that their CI system makes, and
Git hosts, which post when somebody pushes. FILE says who may ask for what; docs/console.md
explains it.

Tokens and what hosts post are secrets: without --http-cert the address is to be one of
this machine, behind a proxy that speaks TLS.`,
		Example: "  lithify console --config console.yaml --http 127.0.0.1:8080",
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withPool(cmd.Context(), &p, func(client *queue.Client) error { return a.console(cmd.Context(), client, c) })
		},
	}
	p.add(cmd.Flags())
	fs := cmd.Flags()
	fs.StringVar(&c.config, "config", "", "YAML file that says who may ask for what")
	fs.StringVar(&c.http, "http", "127.0.0.1:8080", "address to listen at")
	fs.StringVar(&c.cert, "http-cert", "", "PEM certificate of the server")
	fs.StringVar(&c.key, "http-key", "", "PEM key of --http-cert")
	fs.BoolVar(&c.plain, "http-plain", false, "listen without TLS at an address that others reach, too")
	return cmd
}

type consoleFlags struct {
	config, http, cert, key string
	plain                   bool
}

func (a *app) console(ctx context.Context, client *queue.Client, c consoleFlags) error {
	switch {
	case c.config == "":
		return usageError{errors.New("--config is required: without it nobody may ask for anything")}
	case (c.cert == "") != (c.key == ""):
		return usageError{errors.New("--http-cert and --http-key go together")}
	}
	cfg, err := console.Load(c.config)
	if errdefs.IsInvalidArgument(err) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.http)
	if err != nil {
		return fmt.Errorf("--http: %w", err)
	}
	if addr := l.Addr().(*net.TCPAddr); c.cert == "" && !c.plain && !addr.IP.IsLoopback() {
		l.Close()
		return usageError{fmt.Errorf("--http %s: others reach this address, and tokens would go there in the clear: name --http-cert, or say --http-plain", c.http)}
	}
	fmt.Fprintf(a.out, "console up at %s\n", l.Addr())
	return console.New(client, cfg, a.log).Run(ctx, l, c.cert, c.key)
}
