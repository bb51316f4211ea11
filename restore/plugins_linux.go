package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// pluginGrace is how long a CNI plugin may go on whose caller has died.
const pluginGrace = 5 * time.Second

// endPlugins waits for plugins that still connect the container id, and then kills them: they
// outlive whoever called them, and what they give after DEL nobody takes back.
func endPlugins(ctx context.Context, id string) error {
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	for began := time.Now(); ; {
		pids := pluginsOf(id)
		if len(pids) == 0 {
			return nil
		}
		if time.Since(began) > pluginGrace {
			for _, pid := range pids {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("kill process %d, a CNI plugin of %s: %w", pid, id, err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("CNI plugins %v of %s do not end: %w", pids, id, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// pluginsOf finds them by their environment, which those have, too, that they start.
func pluginsOf(id string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files { // one that is gone meanwhile says nothing
		raw, _ := os.ReadFile(file)
		if slices.ContainsFunc(bytes.Split(raw, []byte{0}), func(v []byte) bool { return string(v) == "CNI_CONTAINERID="+id }) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}
