#!/bin/bash
# test/fuzz.sh TIME [PACKAGE]...: each fuzz target for TIME, one after another.
set -euo pipefail
cd "$(dirname "$0")/.."
time=$1
shift
found=0
for package in $(go list "${@:-./...}"); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		found=$((found + 1))
		echo "== $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5s "$package"
	done
done
echo "$found fuzz targets, $time each"
