package main

import (
	"flag"
	"path/filepath"
	"slices"
	"strings"
)

// pathFlags have a file or a directory of this machine as their value.
var pathFlags = []string{
	"config", "temp-dir", "ledger-key",
	"nkey", "creds", "tls-ca", "tls-cert", "tls-key", "pool-keys",
	"buildkit-root", "build-secrets",
	"restore-policy", "restore-root", "restore-key", "restore-decrypt-with", "restore-secrets", "restore-cni-conf-dir",
}

// absolute gives the arguments of fs with the paths that they name from here, for a process that is
// started elsewhere.
func absolute(fs *flag.FlagSet, args []string) ([]string, error) {
	args = slices.Clone(args)
	for i := 0; i < len(args); i++ {
		flag, value, inside := strings.Cut(args[i], "=")
		name, ok := strings.CutPrefix(flag, "-")
		name = strings.TrimPrefix(name, "-")
		if !ok || name == "" { // no flags follow, as package flag has it
			break
		}
		f := fs.Lookup(name)
		if f == nil || !inside && isBool(f) {
			continue
		}
		if !inside {
			if i++; i == len(args) {
				break
			}
			value = args[i]
		}
		if value == "" || !slices.Contains(pathFlags, name) {
			continue
		}
		abs, err := filepath.Abs(value)
		if err != nil {
			return nil, err
		}
		if inside {
			abs = flag + "=" + abs
		}
		args[i] = abs
	}
	return args, nil
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}
