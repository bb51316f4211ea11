package archive_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/lithify/lithify/convert/preflight"
)

// dumps are made once for all tests.
var dumps struct {
	sync.Mutex
	made map[string]string
}

// dump gives the images of a process that runs a command, made by the real CRIU. Whoever
// changes them copies them first.
func dump(t testing.TB, name string, args ...string) string {
	t.Helper()
	criu, err := exec.LookPath("criu")
	if err != nil || os.Getuid() != 0 {
		t.Skip("dumps a process: needs root and criu (test/tools/install.sh)")
	}
	dumps.Lock()
	defer dumps.Unlock()
	if dir := dumps.made[name]; dir != "" {
		return dir
	}
	dir, err := os.MkdirTemp(dumpsDir, name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	ready, err := cmd.StdoutPipe() // closed by the command once it is what it should be
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 1)); err == nil {
		t.Fatal("the process to dump wrote something")
	}
	out, err := exec.Command(criu, "dump", "-t", strconv.Itoa(cmd.Process.Pid), "-D", dir, "-o", "dump.log", "-v2").CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "dump.log"))
		t.Logf("criu dump: %v\n%s%s", err, out, log)
		cmd.Process.Kill()
	}
	cmd.Wait()
	if err != nil {
		t.FailNow()
	}
	if dumps.made == nil {
		dumps.made = map[string]string{}
	}
	dumps.made[name] = dir
	return dir
}

// sleepDump is the smallest of all.
func sleepDump(t testing.TB) string {
	return dump(t, "sleep", "sh", "-c", "exec sleep 1000 <>/dev/null >&0 2>&0")
}

func realImages(t testing.TB) []member { return images(t, sleepDump(t)) }

// treeDump is of a shell with a child and a zombie.
func treeDump(t testing.TB) string {
	return dump(t, "tree", "sh", "-c", "sleep 0 & sleep 1000 <>/dev/null >&0 2>&0 & exec sleep 1001 <>/dev/null >&0 2>&0")
}

// dumpsDir is gone when the tests are over.
var dumpsDir string

func TestMain(m *testing.M) {
	if preflight.Breakpoints() != nil {
		os.Setenv("CRIU_FAULT", "130") // or CRIU waits for ever
	}
	var err error
	if dumpsDir, err = os.MkdirTemp("", "lithify-dumps-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dumpsDir)
	os.Exit(code)
}
