// Package daemonconf reads the configuration of a containerd as the daemon does, with
// what it imports, and explains it: what of it the daemon migrates at each start, what it
// passes over, and what will be gone in a version to come.
//
//	conf, err := daemonconf.Read("/etc/containerd/config.toml")
//	for _, f := range conf.Findings() {
//		fmt.Println(f)
//	}
//
// containerd's own package cannot be asked: it tells neither lines nor where a key went,
// and the plugins that migrate theirs come with the whole daemon.
package daemonconf
