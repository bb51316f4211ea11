// Package wine runs lithify's Windows programs on Linux, under Wine, with the DLLs of
// test/tools/wine where Windows would have CimFS:
//
//	p := wine.New(t)
//	exe := p.Program(t, "worker", "github.com/lithify/lithify/cmd/worker")
//	cmd := p.Command(ctx, exe, []string{"CIMEMU_LOG=" + wine.Path(log)}, "--version")
//	...
//	calls := wine.ReadCalls(t, log)
//
// What that shows: that our programs start, talk and clean up on Windows' side of Go's
// library; each call that hcsshim makes of the CIM API and each byte it hands over; the
// order of layers and parents; what happens when a call fails, or a process ends in it.
//
// What it cannot show: the bytes of a CIM and its root hash, whether the writer of Windows
// gives the same bytes twice, whether Windows mounts them, what a merged hive holds, NTFS,
// restarts and accounts of services, named pipes (they hang under Wine 8), and any speed. A block that these DLLs
// wrote is no CIM: it begins with "EMUCIM1 ".
package wine
