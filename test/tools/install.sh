#!/bin/bash
# Makes what the tests run as real processes, and nothing else. A second run
# that finds everything takes well under two seconds.
#
#   LITHIFY_TEST_TOOLS    where the programs go (default /var/lib/lithify-test-tools);
#                         they are in its bin, a link to <hash of their inputs>/bin;
#                         its wine, a link likewise, is what wine/make.sh makes
#   LITHIFY_TRIXIE_ROOT   a Debian 13 root with erofs-utils and criu, which are too
#                         old or absent in Debian 12 (default /var/lib/lithify-test-trixie)
#
# Where packages or modules cannot be fetched it says what is missing and exits 0:
# the tests that need it skip and name it.
set -euo pipefail
cd "$(dirname "$0")"

tools=${LITHIFY_TEST_TOOLS:-/var/lib/lithify-test-tools}
trixie=${LITHIFY_TRIXIE_ROOT:-/var/lib/lithify-test-trixie}
packages="mmdebstrap skopeo libseccomp-dev pkg-config pigz zstd gcc git busybox-static podman"
packages+=" cryptsetup-bin fsverity"
packages+=" wine wine64 gcc-mingw-w64-x86-64"
packages+=" chromium"
inner="erofs-utils criu"
missing=()

hash=$(cat install.sh go.mod go.sum ./*/go.mod ./*/go.sum ./*/*.go | sha256sum | cut -c1-16)
bin=$tools/$hash/bin
wine=wine-$(cat wine/* | sha256sum | cut -c1-16)

# Programs of Debian. One dpkg-query answers for all of them; it exits 1 where it
# does not know one, which is no error here.
lacking() {
	{ dpkg-query "${@:2}" -W -f '${Package} ${db:Status-Status}\n' $1 2>/dev/null || true; } |
		awk -v want="$1" '$2 == "installed" {have[$1] = 1}
			END {n = split(want, w, " "); for (i = 1; i <= n; i++) if (!(w[i] in have)) print w[i]}'
}

debian() {
	local lack
	lack=$(lacking "$packages" | tr '\n' ' ')
	[ -z "$lack" ] && return
	echo "install.sh: apt-get install $lack"
	if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $lack; } \
		</dev/null >"$tools/apt.log" 2>&1; then
		missing+=("$lack (apt-get: see $tools/apt.log)")
	fi
}

# The Debian 13 root, made aside and moved, so that a root that is there is whole.
debian13() {
	[ "$(cat "$trixie/.lithify-stamp" 2>/dev/null)" = "$inner" ] && return
	if [ -z "$(lacking "$inner" --admindir="$trixie/var/lib/dpkg")" ]; then
		echo "$inner" >"$trixie/.lithify-stamp"
		return
	fi
	echo "install.sh: mmdebstrap trixie $trixie"
	rm -rf "$trixie.new"
	if ! mmdebstrap --variant=minbase --include="${inner// /,}" trixie "$trixie.new" </dev/null >"$tools/mmdebstrap.log" 2>&1; then
		missing+=("$inner of Debian 13 (mmdebstrap: see $tools/mmdebstrap.log)")
		return
	fi
	echo "$inner" >"$trixie.new/.lithify-stamp"
	rm -rf "$trixie"
	mv "$trixie.new" "$trixie"
}

# wrap NAME PATH: runs a program of the Debian 13 root with that root's libraries.
wrap() {
	[ -x "$bin/$1" ] && grep -qF "$trixie/" "$bin/$1" && return
	printf '#!/bin/sh\nr=%s\nexec $r/lib64/ld-linux-x86-64.so.2 --library-path $r/usr/lib/x86_64-linux-gnu $r%s "$@"\n' \
		"$trixie" "$2" >"$bin/$1.new"
	chmod 755 "$bin/$1.new"
	mv "$bin/$1.new" "$bin/$1"
}

# build NAME MODULE PACKAGE [FLAG]...: a Go program, pinned by the module's go.mod.
build() {
	local name=$1 module=$2 package=$3
	[ -x "$bin/$name" ] && return
	echo "install.sh: go build $name"
	if ! (cd "$module" && GOFLAGS="-mod=readonly -buildvcs=false" go build -trimpath -ldflags "-s -w" "${@:4}" -o "$bin/$name.new" "$package") \
		</dev/null >"$tools/$name.log" 2>&1; then
		missing+=("$name (go build: see $tools/$name.log)")
		return
	fi
	mv "$bin/$name.new" "$bin/$name"
	rm -f "$tools/$name.log"
}

programs() {
	local containerd=github.com/containerd/containerd/v2/cmd lean="no_btrfs no_devmapper no_zfs"
	build staticcheck . honnef.co/go/tools/cmd/staticcheck
	CGO_ENABLED=0 build containerd . $containerd/containerd -tags "$lean"
	CGO_ENABLED=0 build ctr . $containerd/ctr -tags "$lean"
	CGO_ENABLED=0 build containerd-shim-runc-v2 . $containerd/containerd-shim-runc-v2 -tags "$lean"
	CGO_ENABLED=0 build ctrdconvert . ./ctrdconvert
	CGO_ENABLED=0 build registry . github.com/distribution/distribution/v3/cmd/registry
	CGO_ENABLED=0 build crane . github.com/google/go-containerregistry/cmd/crane
	CGO_ENABLED=0 build nats-server . github.com/nats-io/nats-server/v2
	CGO_ENABLED=1 build runc . github.com/opencontainers/runc -tags seccomp
	CGO_ENABLED=0 build dockerpull dockerpull .
	CGO_ENABLED=0 build otelcol otelcol .
	CGO_ENABLED=0 build buildkitd buildkitd github.com/moby/buildkit/cmd/buildkitd
	CGO_ENABLED=0 build containerd23 containerd23 $containerd/containerd -tags "$lean"
	CGO_ENABLED=0 build cri . ./cri
	CGO_ENABLED=0 build cni-bridge cniplugins github.com/containernetworking/plugins/plugins/main/bridge
	CGO_ENABLED=0 build cni-host-local cniplugins github.com/containernetworking/plugins/plugins/ipam/host-local
	CGO_ENABLED=0 build browser browser .
	CGO_ENABLED=0 build checkpointctl checkpointctl github.com/checkpoint-restore/checkpointctl
}

# The Windows that tests copy, made aside and moved.
windows() {
	command -v wine >/dev/null && command -v x86_64-w64-mingw32-gcc >/dev/null || return 0
	if [ ! -d "$tools/$wine" ]; then
		echo "install.sh: wine/make.sh"
		rm -rf "$tools/$wine.new"
		if ! wine/make.sh "$tools/$wine.new" </dev/null >"$tools/wine.log" 2>&1; then
			missing+=("a prefix of Wine (wine/make.sh: see $tools/wine.log)")
			return
		fi
		mv "$tools/$wine.new" "$tools/$wine"
	fi
	ln -sfn "$wine" "$tools/wine.new"
	mv -T "$tools/wine.new" "$tools/wine"
}

if ! mkdir -p "$bin" 2>/dev/null; then
	echo "install.sh: missing: everything ($tools cannot be written; set LITHIFY_TEST_TOOLS)"
	exit 0
fi
exec 9>"$tools/lock"
flock 9
if [ "$(id -u)" = 0 ] && command -v dpkg-query >/dev/null; then
	debian
	debian13
else
	missing+=("packages of Debian (needs root on Debian)")
fi
if [ -x "$trixie/usr/bin/mkfs.erofs" ]; then
	for name in mkfs.erofs fsck.erofs dump.erofs; do wrap $name /usr/bin/$name; done
	wrap criu /usr/sbin/criu
fi
windows
programs
ln -sfn "$hash/bin" "$tools/bin.new"
mv -T "$tools/bin.new" "$tools/bin"
# What other revisions built is kept for a week.
find "$tools" -mindepth 1 -maxdepth 1 -type d ! -name "$hash" ! -name "$wine" -mtime +7 -exec rm -rf {} +
for m in ${missing[@]+"${missing[@]}"}; do echo "install.sh: missing: $m"; done
exit 0
