#!/bin/bash
# Runs tests of test/e2e in a virtual machine: Debian 13 with its own kernel, control
# groups of version 2, every capability, device-mapper and fs-verity, none of which
# the machine at hand may have. QEMU emulates the processor (TCG), so it is slow.
#
#   test/vm/run.sh [REGEXP [FLAG]...]   which tests (default those of containers, CRIU and dm-verity), and flags
#                                       of theirs (default -test.short -test.patience 20m)
#
#   LITHIFY_TEST_VM                     where the machine is kept (default /var/lib/lithify-test-vm)
#   LITHIFY_VM_TIMEOUT                  how long it may run (default 10800 s)
#
# Needs root, mmdebstrap and e2fsprogs here; qemu-system-x86 is installed if it is missing.
# The disk is thrown away with the machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests=${1:-'^Test(Checkpoint|Restore|Rollout|Fleet|Commit$|CommitStopped|VerityMount)'}
[ $# -le 1 ] && flags=(-test.short -test.patience 20m) || flags=("${@:2}")
limit=${LITHIFY_VM_TIMEOUT:-10800}
vm=${LITHIFY_TEST_VM:-/var/lib/lithify-test-vm}
tools=${LITHIFY_TEST_TOOLS:-/var/lib/lithify-test-tools}
packages=linux-image-amd64,initramfs-tools,criu,erofs-utils,e2fsprogs,kmod,iproute2,iptables,procps,busybox-static,ca-certificates
hash=$(cat test/vm/run.sh test/vm/init | sha256sum | cut -c1-16)

mkdir -p "$vm"
command -v qemu-system-x86_64 >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-system-x86; } >"$vm/apt.log" 2>&1

# The disk: made aside and moved, so that one that is there is whole.
if [ ! -e "$vm/disk-$hash.img" ]; then
	rm -rf "$vm/root" "$vm"/disk-*.img
	mmdebstrap --variant=minbase --quiet --include="$packages" trixie "$vm/root" >"$vm/mmdebstrap.log" 2>&1
	cp test/vm/init "$vm/root/init"
	cp "$vm"/root/boot/vmlinuz-* "$vm/vmlinuz"
	cp "$vm"/root/boot/initrd.img-* "$vm/initrd"
	# Where the tests look for what test/tools made.
	ln -s / "$vm/root/var/lib/lithify-test-trixie"
	ln -s /host/tools "$vm/root/var/lib/lithify-test-tools"
	ln -s /host/corpus "$vm/root/var/lib/lithify-test-corpus"
	mkdir "$vm/root/host"
	truncate -s 8G "$vm/disk.new"
	mkfs.ext4 -q -O verity -d "$vm/root" "$vm/disk.new"
	rm -rf "$vm/root"
	mv "$vm/disk.new" "$vm/disk-$hash.img"
fi

share=$(mktemp -d "$vm/share.XXXXXX")
trap 'rm -rf "$share"' EXIT
mkdir -p "$share/tools" "$share/programs" "$share/work/test/e2e"
cp -rL "$tools/bin" "$share/tools/bin"
go run ./test/vm/layers debian devel
cp -al "${LITHIFY_TEST_CORPUS:-/var/lib/lithify-test-corpus}" "$share/corpus"
CGO_ENABLED=0 go test -c -o "$share/e2e.test" ./test/e2e
for p in cmd/lithify cmd/worker cmd/scheduler test/e2e/probe test/e2e/workload; do
	CGO_ENABLED=0 go build -o "$share/programs/$(basename "$p")" "./$p"
done
printf '%s\n' -test.run "$tests" -test.timeout "$((limit - 300))s" "${flags[@]}" >"$share/flags"

timeout "$limit" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi,tb-size=1024 -cpu max -smp 2 -m 4096 \
	-nographic -no-reboot -nodefaults -net none -serial mon:stdio \
	-kernel "$vm/vmlinuz" -initrd "$vm/initrd" -append "console=ttyS0 quiet loglevel=3 panic=-1 root=/dev/vda rw init=/init" \
	-drive "file=$vm/disk-$hash.img,format=raw,if=virtio,snapshot=on,cache=unsafe" \
	-virtfs "local,path=$share,mount_tag=host,security_model=none,id=host" </dev/null
exit "$(cat "$share/code" 2>/dev/null || echo 1)"
