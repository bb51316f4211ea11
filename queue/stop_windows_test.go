package queue_test

import (
	"os"
	"testing"
)

func suspend(t *testing.T, _ *os.Process) { t.Skip("no SIGSTOP on Windows") }
func resume(t *testing.T, _ *os.Process)  { t.Skip("no SIGSTOP on Windows") }
