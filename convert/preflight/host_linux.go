package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// privileged is what to do where something is not permitted.
const privileged = "run it as root; in a container that takes CAP_SYS_ADMIN, too"

// here are the probes of Linux.
var here = []probe{
	{
		name: "erofs", use: "EROFS layers are mounted", required: []string{"verify"},
		remedy: "a kernel with CONFIG_EROFS_FS (modprobe erofs), and before Linux 6.12 loop devices (modprobe loop)",
		try:    func(ctx context.Context, o Options) (string, error) { return EROFS(ctx, o.Dir) },
	}, {
		name: "erofs-file", use: "EROFS layers are mounted without loop devices",
		remedy: "Linux 6.12 or later, and a file system that can (not tmpfs); without, a loop device each",
		try:    tryEROFSFile,
	}, {
		name: "erofs-loop", use: "EROFS layers are mounted where files are not",
		remedy: "modprobe loop, and /dev/loop-control in this container", try: tryEROFSLoop,
	}, {
		name: "overlayfs", use: "layers are stacked", required: []string{"verify", "build"},
		remedy: "modprobe overlay; an overlayfs lies on no other one: name another directory",
		try:    func(_ context.Context, o Options) (string, error) { return o.Dir, Overlay(o.Dir) },
	}, {
		name: "fs-verity", use: "containerd's enable_fsverity, which takes the daemon down where this is missing",
		remedy: "a kernel with CONFIG_FS_VERITY, and on ext4: tune2fs -O verity DEVICE", try: tryVerity,
	}, {
		name: "immutable", use: "containerd's set_immutable of EROFS layers",
		remedy: "ext4, xfs or btrfs, and CAP_LINUX_IMMUTABLE", try: tryImmutable,
	}, {
		name: "mkfs.erofs", use: "containerd unpacks tar layers for its EROFS snapshotter; lithify does not need it",
		remedy: "erofs-utils 1.8 or later", try: tryMkfs,
	}, {
		name: "dm-verity", use: "containerd's enable_dmverity, which takes the EROFS snapshotter down where this is missing",
		remedy: "modprobe dm_verity, and /dev/mapper/control in this container", try: tryDMVerity,
	}, {
		name: "runc", use: "containers run", required: []string{"build", "checkpoint", "restore"},
		remedy: "put runc into PATH",
		try:    func(ctx context.Context, _ Options) (string, error) { return versionOf(ctx, "runc") },
	}, {
		name: "buildkitd", use: "images are built without --buildkit ADDRESS", required: []string{"build"},
		remedy: "put BuildKit's buildkitd into PATH, or name one that runs: --buildkit ADDRESS",
		try:    func(ctx context.Context, _ Options) (string, error) { return versionOf(ctx, "buildkitd") },
	}, {
		name: "criu", use: "processes are checkpointed and restored", required: []string{"checkpoint", "restore"},
		remedy: "put CRIU 3.16 or later into PATH; criu check says more", try: tryCRIU,
	}, {
		name: "nofile", use: "CRIU raises the limit of open files to fs.nr_open", required: []string{"checkpoint", "restore"},
		remedy: "CAP_SYS_RESOURCE, or an fs.nr_open no higher than ulimit -Hn: sysctl fs.nr_open=N", try: tryNofile,
	}, {
		name: "cgroup", use: "resources of containers are limited; containerd calls version 1 deprecated",
		remedy: "mount /sys/fs/cgroup", try: tryCgroup,
	},
}

func tryCRIU(ctx context.Context, _ Options) (string, error) {
	version, err := versionOf(ctx, "criu")
	if err != nil {
		return "", err
	}
	if before(version, 3, 16) {
		return "", fmt.Errorf("version %s is too old", version)
	}
	if _, err := firstLine(ctx, "criu", "check"); err != nil {
		return "", err
	}
	return version, nil
}

// capSysResource is CAP_SYS_RESOURCE of capabilities(7).
const capSysResource = 24

func tryNofile(context.Context, Options) (string, error) {
	raw, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return "", err
	}
	most, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return "", fmt.Errorf("fs.nr_open: %w", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", err
	}
	found := fmt.Sprintf("limit %d, fs.nr_open %d", limit.Max, most)
	if limit.Max >= most {
		return found, nil
	}
	if can, err := capable(capSysResource); err != nil || !can {
		return "", errors.Join(err, errors.New(found+", no CAP_SYS_RESOURCE"))
	}
	return found + ", CAP_SYS_RESOURCE", nil
}

// capable reports whether this process has a capability in effect.
func capable(bit int) (bool, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return set>>bit&1 == 1, err
		}
	}
	return false, errors.New("/proc/self/status has no CapEff")
}

func tryCgroup(context.Context, Options) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil {
		return "", err
	}
	switch uint32(st.Type) {
	case unix.CGROUP2_SUPER_MAGIC:
		return "version 2", nil
	case unix.TMPFS_MAGIC:
		return "version 1", nil
	}
	return "", errors.New("/sys/fs/cgroup holds no control groups")
}
