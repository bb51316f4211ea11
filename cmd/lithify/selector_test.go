package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

func TestRestoring(t *testing.T) {
	on := func(node, zone string, kinds ...string) queue.Node {
		n := queue.Node{Node: node, Labels: queue.Labels{"zone": zone}}
		for _, k := range kinds {
			n.Classes = append(n.Classes, jobs.NodeClass(k, node))
		}
		return n
	}
	leaving := on("d", "x", "restore")
	leaving.Draining = true
	workers := []queue.Node{
		on("b", "x", "restore", "remove"), on("a", "x", "restore"), on("a", "x", "commit"), on("c", "x", "commit"), leaving, on("", "x", "restore"),
		on("e", "y", "commit"), on("f", "z", "restore"), on("g", "w", "restore"),
	}
	workers[len(workers)-1].Classes = []jobs.Class{jobs.NodeClass("restore", "f")} // another's
	for selector, want := range map[string]string{
		"zone=x":         "[a b] [c d] <nil>",
		"zone=z":         "[f] [] <nil>",
		"zone!=x,node=f": "[f] [] <nil>",
		"zone=y":         "takes restores now (e)",
		"zone=w":         "takes restores now (g)",
		"zone=v":         "none of the 9 workers",
	} {
		where, err := queue.ParseWhere(selector)
		if err != nil {
			t.Fatal(err)
		}
		nodes, idle, err := restoring(workers, where)
		if got := fmt.Sprint(nodes, idle, err); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", selector, got, want)
		}
	}
}

// A pool without a worker that restores, and one that is asked by its API.
func TestSelectorRefused(t *testing.T) {
	servePool(t)
	host := newRegistry(t)
	pushImage(t, host+"/app:1", "linux", "amd64")
	for _, tc := range []struct {
		flags string
		code  int
		says  string
	}{
		{"--selector os!=none", 1, "takes restores"},
		{"--selector zone=a", 4, "none of the 1 workers"},
		{"--selector zone", 2, "KEY=VALUE"},
		{"--selector zone=a --node a", 2, "exclude"},
		{"", 2, "--node"},
		{"--selector zone=a --api http://127.0.0.1:1", 2, "--node"},
	} {
		args := append([]string{"submit", "rollout", "--insecure", "--name", "web", host + "/app:1"}, strings.Fields(tc.flags)...)
		if code, _, stderr := lithify(t, args...); code != tc.code || !strings.Contains(stderr, tc.says) {
			t.Errorf("%s: exit code %d, %q; want %d and %s", tc.flags, code, stderr, tc.code, tc.says)
		}
	}
}
