//go:build !windows

package registry

import "syscall"

var brokenConnection = []error{syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT}
