package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/user"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	"github.com/lithify/lithify/jobs/layer"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) poolCommand() *cobra.Command {
	var p poolFlags
	cmd := &cobra.Command{Use: "pool", Short: "Decide what the pool does first, and how much at a time"}
	group(cmd)
	p.add(cmd.PersistentFlags())
	cmd.AddCommand(a.poolShow(&p), a.poolPause(&p), a.poolResume(&p), a.poolTenant(&p), a.poolRegistry(&p))
	return cmd
}

func (a *app) poolShow(p *poolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show pauses, and the limits of tenants and registries",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				c, err := client.Controls(cmd.Context())
				if err != nil {
					return err
				}
				return a.printControls(c)
			})
		},
	}
}

func (a *app) printControls(c queue.Controls) error {
	if a.output == "json" {
		return a.printJSON(c)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, x := range c.Pauses {
		fmt.Fprintf(w, "paused\t%s\tsince %s by %s\t%s\n", x.Selector, x.Since.Local().Format(time.DateTime), cmp.Or(x.By, "somebody"), x.Reason)
	}
	for _, x := range c.Jobs {
		fmt.Fprintf(w, "paused\tjob %s\tsince %s by %s\t%s\n", x.Job, x.Since.Local().Format(time.DateTime), cmp.Or(x.By, "somebody"), x.Reason)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tenants)) {
		t := c.Tenants[name]
		fmt.Fprintf(w, "tenant\t%s\tweight %d\t%s in flight\n", name, max(t.Weight, 1), atMost(t.MaxInFlight))
	}
	for _, host := range slices.Sorted(maps.Keys(c.Registries)) {
		r := c.Registries[host]
		fmt.Fprintf(w, "registry\t%s\t%s jobs in flight\t%s requests a second\n", host, atMost(r.Concurrency), atMost(r.Rate))
	}
	return w.Flush()
}

func atMost[N int | float64](n N) string {
	if n == 0 {
		return "any number of"
	}
	return "at most " + strconv.FormatFloat(float64(n), 'f', -1, 64)
}

// selectorFlags choose the jobs that a pause is for.
func selectorFlags(cmd *cobra.Command, s *queue.Selector) {
	cmd.Flags().StringVar(&s.Kind, "kind", "", "jobs of this kind")
	cmd.Flags().StringVar(&s.Tenant, "tenant", "", "jobs of this tenant")
	cmd.Flags().StringVar(&s.Registry, "registry", "", "jobs that talk to this registry, host[:port]")
}

// checkSelector has the selector name a registry as jobs do.
func checkSelector(s *queue.Selector) (err error) {
	n := 0
	for _, name := range []string{s.Kind, s.Tenant, s.Registry} {
		if name != "" {
			n++
		}
	}
	if n > 1 {
		return usageError{errors.New("--kind, --tenant and --registry exclude each other: pause one after the other")}
	}
	if s.Registry != "" {
		if s.Registry, err = registryHost(s.Registry); err != nil {
			return err
		}
	}
	if s.Tenant != "" {
		return checkTenant(s.Tenant)
	}
	return nil
}

// registryHost is a registry as jobs name it: Docker Hub has two names.
func registryHost(name string) (string, error) {
	host := layer.RegistryHosts(name + "/x")[0]
	if name != host && name != "docker.io" {
		return "", usageError{fmt.Errorf("%q is no registry: want HOST[:PORT], as references to images have it", name)}
	}
	return host, nil
}

// checkKind wants a kind that there is, or none.
func checkKind(name string) error {
	if kinds := all.Validators(); name != "" && kinds[name] == nil {
		return usageError{fmt.Errorf("--kind %q is none of %v", name, slices.Sorted(maps.Keys(kinds)))}
	}
	return nil
}

func checkTenant(name string) error {
	if err := jobs.CheckTenant(name); err != nil {
		return usageError{err}
	}
	return nil
}

func (a *app) poolPause(p *poolFlags) *cobra.Command {
	var x queue.Pause
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Start no more jobs, all or some",
		Long: `Start no more jobs: all of them, or those of a kind, a tenant or a registry. Jobs that
run go on, jobs that are submitted wait. "jobs explain" says who paused them and why.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSelector(&x.Selector); err != nil {
				return err
			}
			if err := checkKind(x.Kind); err != nil {
				return err
			}
			x.By, x.Since = myName(), time.Now().UTC()
			return a.control(cmd.Context(), p, func(c *queue.Controls) error {
				c.Pauses = slices.DeleteFunc(c.Pauses, func(o queue.Pause) bool { return o.Selector == x.Selector })
				c.Pauses = append(c.Pauses, x)
				return nil
			})
		},
	}
	selectorFlags(cmd, &x.Selector)
	cmd.Flags().StringVar(&x.Reason, "reason", "", "why, for those who wonder")
	return cmd
}

// myName is who decides something, for those who wonder.
func myName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

func (a *app) poolResume(p *poolFlags) *cobra.Command {
	var s queue.Selector
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "End a pause",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSelector(&s); err != nil {
				return err
			}
			return a.control(cmd.Context(), p, func(c *queue.Controls) error {
				was := len(c.Pauses)
				c.Pauses = slices.DeleteFunc(c.Pauses, func(o queue.Pause) bool { return o.Selector == s })
				if len(c.Pauses) == was {
					return usageError{fmt.Errorf("%s is not paused, see \"lithify pool show\"", s)}
				}
				return nil
			})
		},
	}
	selectorFlags(cmd, &s)
	return cmd
}

func (a *app) poolTenant(p *poolFlags) *cobra.Command {
	var t queue.Tenant
	cmd := &cobra.Command{
		Use:   "tenant NAME",
		Short: "Set which share of the pool a tenant gets",
		Long: `Set which share of the pool a tenant gets. Tenants take turns; at each turn one has as
many jobs admitted as its weight says.`,
		Example: "  lithify pool tenant nightly --weight 1 --max-in-flight 20",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if t.Weight < 1 || t.MaxInFlight < 0 {
				return usageError{errors.New("--weight is above zero, and --max-in-flight not below")}
			}
			if err := checkTenant(args[0]); err != nil {
				return err
			}
			return a.control(cmd.Context(), p, func(c *queue.Controls) error {
				if c.Tenants == nil {
					c.Tenants = map[string]queue.Tenant{}
				}
				c.Tenants[args[0]] = t
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&t.Weight, "weight", 1, "jobs in a turn")
	cmd.Flags().IntVar(&t.MaxInFlight, "max-in-flight", 0, "jobs admitted or running at a time; 0 for any number")
	return cmd
}

func (a *app) poolRegistry(p *poolFlags) *cobra.Command {
	var r queue.Registry
	cmd := &cobra.Command{
		Use:     "registry HOST[:PORT]",
		Short:   "Set how much the pool may ask of a registry",
		Example: "  lithify pool registry registry.example.com --concurrency 8 --rate 50",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if min(float64(r.Concurrency), r.Rate, float64(r.Burst)) < 0 {
				return usageError{errors.New("--concurrency, --rate and --burst are not below zero")}
			}
			host, err := registryHost(args[0])
			if err != nil {
				return err
			}
			return a.control(cmd.Context(), p, func(c *queue.Controls) error {
				if c.Registries == nil {
					c.Registries = map[string]queue.Registry{}
				}
				c.Registries[host] = r
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&r.Concurrency, "concurrency", 0, "jobs at a time that talk to it; 0 for any number")
	cmd.Flags().Float64Var(&r.Rate, "rate", 0, "requests a second, of all workers together; 0 for any number, until it refuses some")
	cmd.Flags().IntVar(&r.Burst, "burst", 0, "requests at once after a pause (default a second's worth)")
	return cmd
}

func (a *app) control(ctx context.Context, p *poolFlags, change func(*queue.Controls) error) error {
	return a.withPool(ctx, p, func(client *queue.Client) error { return client.Control(ctx, change) })
}
