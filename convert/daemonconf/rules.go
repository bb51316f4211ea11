package daemonconf

// Tables of plugins in a configuration.
const (
	oldCRI  = `plugins."io.containerd.grpc.v1.cri"`
	runtime = `plugins."io.containerd.cri.v1.runtime"`
	images  = `plugins."io.containerd.cri.v1.images"`
	servers = `plugins."io.containerd.server.v1.`
)

// rule says what became of a key. Keys are as in a file; an asterisk stands for one part,
// and one at the end for all below.
type rule struct {
	key string
	// now says where it stands now, or what to do instead; empty: it stays, and a rule
	// further down does not mean it.
	now string
	// until is the last version of the configuration that may have it there. Later ones
	// pass over it. 0: each.
	until int
	// since and gone are the versions of containerd that called it deprecated and that do
	// not know it any more; empty: none.
	since, gone string
	// beside is what has to be set, too, or containerd 2.4 loses the key as it migrates
	// (its plugins/cri/images returns early).
	beside string
	// from is the first version from which containerd 2.4 does not lose it as it migrates
	// (core/runtime/v2 begins anew at each step).
	from int
}

// announced is the version of containerd in which things will be gone that are not yet.
const announced = "2.7"

// rules are those of containerd 2.4.2: its RELEASES.md and its migrations (ConfigMigration
// of its plugins, and of cmd/containerd/server/config).
var rules = []rule{
	{key: oldCRI + ".cni.bin_dir", now: runtime + ".cni bin_dirs, a list", until: 3, since: "2.1"},
	{key: runtime + ".cni.bin_dir", now: "bin_dirs, a list", since: "2.1", gone: "2.4"},

	{key: oldCRI + ".enable_cdi", now: "nothing: CDI is always on", until: 3, since: "2.2", gone: "2.4"},
	{key: runtime + ".enable_cdi", now: "nothing: CDI is always on", since: "2.2", gone: "2.4"},
	{key: oldCRI + ".registry.auths.*", now: "ImagePullSecrets of pods", until: 3, since: "1.3", gone: "2.7"},
	{key: images + ".registry.auths.*", now: "ImagePullSecrets of pods", since: "1.3", gone: "2.7"},
	{key: oldCRI + ".registry.configs.*", now: images + ".registry config_path, with files hosts.toml", until: 3, since: "1.5", gone: "2.7"},
	{key: images + ".registry.configs.*", now: "config_path, with files hosts.toml", since: "1.5", gone: "2.7"},
	{key: oldCRI + ".registry.mirrors.*", now: images + ".registry config_path, with files hosts.toml", until: 3, since: "1.5", gone: "2.7"},
	{key: images + ".registry.mirrors.*", now: "config_path, with files hosts.toml", since: "1.5", gone: "2.7"},

	{key: oldCRI + ".systemd_cgroup", now: "SystemdCgroup in the options of the runtime", since: "1.3", gone: "2.0"},
	{key: oldCRI + ".disable_cgroup", now: "delegation of control groups of version 2", since: "1.7", gone: "2.0"},
	{key: oldCRI + ".containerd.untrusted_workload_runtime.*", now: "a runtime with the name untrusted", since: "1.2", gone: "2.0"},
	{key: oldCRI + ".containerd.default_runtime.*", now: "default_runtime_name", since: "1.3", gone: "2.0"},
	{key: oldCRI + ".containerd.runtimes.*.runtime_engine", now: "BinaryName in the options of the runtime", since: "1.3", gone: "2.0"},
	{key: oldCRI + ".containerd.runtimes.*.runtime_root", now: "Root in the options of the runtime", since: "1.3", gone: "2.0"},
	{key: oldCRI + ".containerd.runtimes.*.options.CriuPath", now: "a criu in the daemon's PATH", since: "1.7", gone: "2.0"},
	{key: `plugins."io.containerd.tracing.processor.v1.otlp".*`, now: "the environment: OTEL_EXPORTER_OTLP_ENDPOINT and its kin", since: "1.6.29", gone: "2.4"},
	{key: `plugins."io.containerd.internal.v1.tracing".*`, now: "the environment: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and its kin", since: "1.6.29", gone: "2.4"},

	// Version 3 split CRI, and moved four others.
	{key: oldCRI + ".sandbox_image", now: images + ".pinned_images sandbox", until: 3},
	{key: oldCRI + ".registry.*", now: images + ".registry", until: 3},
	{key: oldCRI + ".image_decryption.*", now: images + ".image_decryption", until: 3},
	{key: oldCRI + ".max_concurrent_downloads", now: images, until: 3},
	{key: oldCRI + ".image_pull_progress_timeout", now: images, until: 3},
	{key: oldCRI + ".image_pull_with_sync_fs", now: images, until: 3},
	{key: oldCRI + ".stats_collect_period", now: images, until: 3},
	{key: oldCRI + ".containerd.snapshotter", now: images, until: 3, beside: oldCRI + ".containerd.runtimes.*"},
	{key: oldCRI + ".containerd.disable_snapshot_annotations", now: images, until: 3, beside: oldCRI + ".containerd.runtimes.*"},
	{key: oldCRI + ".containerd.discard_unpacked_layers", now: images, until: 3, beside: oldCRI + ".containerd.runtimes.*"},
	{key: oldCRI + ".disable_tcp_service"},
	{key: oldCRI + ".stream_server_address"},
	{key: oldCRI + ".stream_server_port"},
	{key: oldCRI + ".stream_idle_timeout"},
	{key: oldCRI + ".enable_tls_streaming"},
	{key: oldCRI + ".x509_key_pair_streaming.*"},
	{key: oldCRI + ".*", now: runtime, until: 3},
	{key: `plugins."io.containerd.runtime.v2.task".sched_core`, now: `plugins."io.containerd.shim.v1.manager" env = ["SCHED_CORE=1"]`, until: 3, from: 3},
	{key: `plugins."io.containerd.monitor.v1.cgroups".*`, now: `plugins."io.containerd.monitor.task.v1.cgroups"`, until: 3},
	{key: `plugins."io.containerd.internal.v1.restart".*`, now: `plugins."io.containerd.monitor.container.v1.restart"`, until: 3},

	// Version 4 has where the daemon listens as plugins.
	{key: "grpc.tcp_*", now: servers + `grpc-tcp"`, until: 3},
	{key: "grpc.*", now: servers + `grpc"`, until: 3},
	{key: "ttrpc.*", now: servers + `ttrpc"`, until: 3},
	{key: "debug.address", now: servers + `debug"`, until: 3},
	{key: "debug.uid", now: servers + `debug"`, until: 3},
	{key: "debug.gid", now: servers + `debug"`, until: 3},
	{key: "metrics.address", now: servers + `metrics"`, until: 3},
	{key: "metrics.grpc_histogram", now: `plugins."io.containerd.metrics.v1.grpc-prometheus"`, until: 3},
}

// versions says what a version of the configuration is.
var versions = map[int]string{
	0: "it says no version, and is taken for 1",
	1: "of containerd 1.0 to 1.2: plugins have short names",
	2: "of containerd 1.3 to 1.7: plugins have full names, and all of CRI is in io.containerd.grpc.v1.cri",
	3: "of containerd 2.0 to 2.2: CRI is in io.containerd.cri.v1.runtime and io.containerd.cri.v1.images; where the daemon listens is in [grpc], [ttrpc], [debug] and [metrics]",
	4: "of containerd 2.3 and later: where the daemon listens is in plugins too, io.containerd.server.v1.grpc and its kin",
}

// newest is the version of the configuration that needs no migration.
const newest = 4

// shortNames are those that version 1 gives plugins we have rules for.
var shortNames = map[string]string{
	"cri": "io.containerd.grpc.v1.cri", "cgroups": "io.containerd.monitor.v1.cgroups", "task": "io.containerd.runtime.v2.task",
	"restart": "io.containerd.internal.v1.restart", "tracing": "io.containerd.internal.v1.tracing", "otlp": "io.containerd.tracing.processor.v1.otlp",
}
