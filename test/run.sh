#!/bin/bash
# Runs the tests and ends with test/summary's counts.
#
#   test/run.sh [-root] [GO TEST FLAG]... [PACKAGE]...
#
# Packages whose tests know -test.root get it where this is root; with -root only
# those run. Programs of test/tools come first in PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=${LITHIFY_TEST_TOOLS:-/var/lib/lithify-test-tools}/bin:$PATH

only_root= flags=() packages=()
for a; do
	case $a in
	-root) only_root=1 ;;
	-*) flags+=("$a") ;;
	*) packages+=("$a") ;;
	esac
done
[ ${#packages[@]} -gt 0 ] || packages=(./...)

# rooted lists the packages with a test file that defines the flag, or imports
# what defines it. Others would refuse it.
rooted() {
	go list -f '{{$p := .}}{{range .TestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}
{{end}}{{range .XTestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}
{{end}}' "${packages[@]}" | while read -r package file; do
		if [ -n "$file" ] && grep -qE '"test\.root"|containerd/v2/pkg/testutil"' "$file"; then echo "$package"; fi
	done | sort -u
}

# Assignments, so that a go list that fails ends the run.
all=$(go list "${packages[@]}" | sort)
root=$(rooted)
mapfile -t plain < <(comm -23 <(echo "$all") <(echo "$root"))
as_root=()
[ "$(id -u)" != 0 ] || as_root=(-test.root)

# A failed half must not keep the other from running. pipefail makes its status
# that of the whole, whatever summary could read of it.
{
	status=0
	if [ -z "$only_root" ] && [ ${#plain[@]} -gt 0 ]; then
		go test -json -timeout 20m ${flags[@]+"${flags[@]}"} "${plain[@]}" || status=1
	fi
	if [ -n "$root" ]; then
		# shellcheck disable=SC2086 # import paths have no spaces
		go test -json -timeout 30m ${flags[@]+"${flags[@]}"} $root ${as_root[@]+"${as_root[@]}"} || status=1
	fi
	exit $status
} </dev/null 2>&1 | go run ./test/summary
