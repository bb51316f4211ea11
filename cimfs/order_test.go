package cimfs_test

import (
	"testing"

	"github.com/lithify/lithify/cimfs"
)

func TestWordOf(t *testing.T) {
	for stderr, want := range map[string]string{
		"": "",
		"level=warning msg=footer\nhcsshim: disk full\n":                                                             "hcsshim: disk full",
		"level=debug msg=x\nException 0xc0000005 0x0 0x10 0x7ff\nPC=0x7ff\n\ngoroutine 1 [syscall]:\ngs      0x2b\n": "Exception 0xc0000005 0x0 0x10 0x7ff",
		"panic: no active writer\n\ngoroutine 1 [running]:\n\tmain.go:3 +0x1\nexit status 2\n":                       "panic: no active writer",
	} {
		if got := cimfs.WordOf(stderr); got != want {
			t.Errorf("%q: got %q, want %q", stderr, got, want)
		}
	}
}
