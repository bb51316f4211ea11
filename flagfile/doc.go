// Package flagfile gives the flags of a service values from its environment and from a
// file, so that a fleet need not repeat them on each command line. A flag that was given
// counts first, then its variable, then the file, then the default.
//
//	file := flagfile.Add(flag.CommandLine, "lithify-worker")
//	flag.Parse()
//	warnings, err := file.Load()
//
// The file is YAML: its version, and flags by their names.
//
//	version: 1
//	nats: nats://nats.example.com:4222
//	slots: 4
//	grace: 1m
//	restore-from: [r.example.com/web, r.example.com/checkpoints/]
//
// The variable of --restore-from is LITHIFY_WORKER_RESTORE_FROM; one that is empty does not
// count. The program is in its name, since a server and its worker may share an environment.
//
// # Versions
//
// A flag that gets another name is one more line in the list of renames. It makes a new version
// of the format: files of that version have the new name alone, and in those of earlier ones
// the old name is read with a [Warning]. [Migrate] writes such a file anew.
package flagfile
