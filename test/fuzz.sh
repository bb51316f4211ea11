#!/bin/bash
# test/fuzz.sh TIME [PACKAGE]...: each fuzz target for TIME, one after another.
set -euo pipefail
cd "$(dirname "$0")/.."
time=$1
shift
found=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for package in $(go list "${@:-./...}"); do
	targets=$(go test -list '^Fuzz' "$package") # of a package that does not build: ends here
	for target in $(grep '^Fuzz' <<<"$targets" || true); do
		found=$((found + 1))
		echo "== $package $target"
		# Before Go 1.27 go test may call its own deadline a failure (golang.org/issue/75804);
		# a real failure wrote its input.
		if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5s "$package" 2>&1 | tee "$log"; then
			if grep -q 'Failing input written' "$log" || ! grep -qx '    context deadline exceeded' "$log"; then exit 1; fi
			echo "(that was the deadline)"
		fi
	done
done
echo "$found fuzz targets, $time each"
