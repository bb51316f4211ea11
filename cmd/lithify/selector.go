package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/jobs"
	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/queue"
)

// selectNodes are the machines that a selector chooses now and that restore checkpoints.
func (a *app) selectNodes(ctx context.Context, p pool, selector string) ([]string, error) {
	where, err := queue.ParseWhere(selector)
	if err != nil {
		return nil, usageError{err}
	}
	client, ok := p.(*queue.Client)
	if !ok {
		return nil, usageError{errors.New("--selector asks the pool for its workers, which its API does not tell: name the nodes with --node")}
	}
	workers, err := client.Workers(ctx)
	if err != nil {
		return nil, err
	}
	nodes, idle, err := restoring(workers, where)
	if err != nil {
		return nil, fmt.Errorf("--selector %s: %w", selector, err)
	}
	if len(idle) > 0 {
		fmt.Fprintf(a.err, "left out, for they take no restores: %s\n", strings.Join(idle, ", "))
	}
	return nodes, nil
}

// restoring are the machines of where on which some worker restores and is not about to
// stop; idle are the others, if there are any of the first.
func restoring(workers []queue.Node, where queue.Where) (nodes, idle []string, err error) {
	restores := map[string]bool{}
	for _, n := range workers {
		if n.Node != "" && where.Of(n) { // one of an earlier version does not say where it is
			restores[n.Node] = restores[n.Node] || !n.Draining && slices.Contains(n.Classes, jobs.NodeClass(restorejob.Kind, n.Node))
		}
	}
	for _, node := range slices.Sorted(maps.Keys(restores)) {
		if restores[node] {
			nodes = append(nodes, node)
		} else {
			idle = append(idle, node)
		}
	}
	switch {
	case len(restores) == 0:
		return nil, nil, fmt.Errorf("none of the %d workers is on such a machine, see \"lithify workers\": %w", len(workers), errdefs.ErrNotFound)
	case len(nodes) == 0:
		return nil, nil, fmt.Errorf("no worker on such a machine takes restores now (%s), see lithify-worker --restore-from: %w", strings.Join(idle, ", "), errdefs.ErrFailedPrecondition)
	}
	return nodes, idle, nil
}
