package restore

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/convert/stack"
)

// told is a CNI plugin that writes down what it is told, and fails as the bridge plugin does by
// the path of what is no namespace.
const told = `#!/bin/sh
echo "$CNI_COMMAND $CNI_NETNS" >>"$(dirname "$0")/said"
[ -z "$CNI_NETNS" ] || [ "$(stat -f -c %t "$CNI_NETNS")" = 6e736673 ]
`

// A machine that was started again has the file at which a namespace was mounted, and no
// namespace. What plugins have given to its container can be taken back all the same.
func TestDisconnect(t *testing.T) {
	for name, tc := range map[string]struct {
		root bool
		make func(file string) error
		path bool // is given to the plugin
	}{
		"a namespace":          {true, newNetNS, true},
		"the file that it had": {false, func(file string) error { return os.WriteFile(file, nil, 0o600) }, false},
		"nothing":              {false, func(string) error { return nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.root && os.Getuid() != 0 {
				t.Skip("needs root")
			}
			bin := t.TempDir()
			if err := os.WriteFile(filepath.Join(bin, "told"), []byte(told), 0o700); err != nil {
				t.Fatal(err)
			}
			r := &run{daemon: &stack.Daemon{}, opts: Options{Name: "web", Root: t.TempDir()}}
			if err := os.MkdirAll(filepath.Dir(r.netnsFile()), 0o700); err != nil {
				t.Fatal(err)
			}
			a := attached{Config: json.RawMessage(`{"cniVersion": "1.0.0", "name": "told", "plugins": [{"type": "told"}]}`), BinDirs: []string{bin}}
			if err := a.write(r.attachedFile()); err != nil {
				t.Fatal(err)
			}
			if err := tc.make(r.netnsFile()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { syscall.Unmount(r.netnsFile(), syscall.MNT_DETACH) }) // of a test that fails
			if err := r.disconnect(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := "DEL \n"
			if tc.path {
				want = "DEL " + r.netnsFile() + "\n"
			}
			got, err := os.ReadFile(filepath.Join(bin, "said"))
			if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
				t.Errorf("%v, the plugin was told (-want +got):\n%s", err, diff)
			}
			if left, err := os.ReadDir(filepath.Dir(r.netnsFile())); err != nil || len(left) != 0 {
				t.Errorf("%v, left: %v", err, left)
			}
		})
	}
}

// slow is a CNI plugin that connects nothing in some time, by another program as plugins for
// addresses are.
const slow = `#!/bin/sh
cd "$(dirname "$0")"
if [ "$CNI_COMMAND" = ADD ]; then echo began >began; sh -c 'sleep '$SLOW'; :'; fi
echo "$CNI_COMMAND" >>said
`

// A plugin whose caller was killed is waited for, or killed, before what it gives is taken back.
func TestDisconnectWhileConnecting(t *testing.T) {
	for name, tc := range map[string]struct{ slow, want string }{
		"slow":  {"1", "ADD\nDEL\n"},
		"hangs": {"600", "DEL\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.slow == "600" && testing.Short() {
				t.Skip("waits for a plugin for its grace: long lane")
			}
			t.Parallel()
			bin := t.TempDir()
			plugin := filepath.Join(bin, "slow")
			if err := os.WriteFile(plugin, []byte(slow), 0o700); err != nil {
				t.Fatal(err)
			}
			r := &run{daemon: &stack.Daemon{}, opts: Options{Name: "web-" + tc.slow, Root: t.TempDir()}}
			if err := os.MkdirAll(filepath.Dir(r.netnsFile()), 0o700); err != nil {
				t.Fatal(err)
			}
			a := attached{Config: json.RawMessage(`{"cniVersion": "1.0.0", "name": "slow", "plugins": [{"type": "slow"}]}`), BinDirs: []string{bin}}
			if err := a.write(r.attachedFile()); err != nil {
				t.Fatal(err)
			}
			add := exec.Command(plugin)
			add.Env = append(os.Environ(), "CNI_COMMAND=ADD", "SLOW="+tc.slow, "CNI_CONTAINERID="+cniID(r.daemon.Namespace(), r.opts.Name))
			if err := add.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- add.Wait() }()
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				if _, err := os.Stat(filepath.Join(bin, "began")); err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the plugin does not begin")
				}
			}
			if err := r.disconnect(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-ended
			got, err := os.ReadFile(filepath.Join(bin, "said"))
			if diff := cmp.Diff(tc.want, string(got)); diff != "" || err != nil {
				t.Errorf("%v, the plugin did (-want +got):\n%s", err, diff)
			}
		})
	}
}

// What one container has of the machine's network is no other's, whatever they are called.
func TestNetworksApart(t *testing.T) {
	named := func(name string) *run {
		return &run{daemon: &stack.Daemon{}, opts: Options{Name: name, Root: "/r"}}
	}
	if file := named("web").attachedFile(); file == named("web.json").netnsFile() {
		t.Errorf("%s is web's and web.json's", file)
	}
	if id := cniID("default", "web-1"); id == cniID("default-web", "1") {
		t.Errorf("%s is that of two containers", id)
	}
}
