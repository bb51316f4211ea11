# `make help` lists the targets. `make test` is what .ci/run calls.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TOOLS    := $(or $(LITHIFY_TEST_TOOLS),/var/lib/lithify-test-tools)/bin
FUZZTIME ?= 30s
FAULTS   ?= 1000
SEED     ?= $(shell date +%s)
PKG      ?= ./...
ROOT     := $(if $(filter 0,$(shell id -u)),-test.root)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## lithify, lithify-scheduler and lithify-worker into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/lithify ./cmd/lithify
	CGO_ENABLED=0 go build -trimpath -o bin/lithify-scheduler ./cmd/scheduler
	CGO_ENABLED=0 go build -trimpath -o bin/lithify-worker ./cmd/worker

.PHONY: demo
demo: build ## convert a real image, here and through a pool, and show the result
	CGO_ENABLED=0 go build -o bin/demo ./test/demo
	bin/demo bin/lithify

.PHONY: tools
tools: ## the programs that tests run as real processes (test/tools/install.sh)
	@bash test/tools/install.sh

.PHONY: check
check: tools ## gofmt, vet, staticcheck, go mod tidy -diff, build and vet for Windows
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	go vet ./...
	$(TOOLS)/staticcheck ./...
	go mod tidy -diff
	$(MAKE) --no-print-directory windows

.PHONY: windows
windows: ## build and vet everything for Windows
	GOOS=windows CGO_ENABLED=0 go build ./...
	GOOS=windows CGO_ENABLED=0 go vet ./...

.PHONY: test
test: check ## what CI runs: check, then every test with -race, root's and e2e's short lane too
	bash test/run.sh -race -short

.PHONY: root-test
root-test: tools ## every test that needs root, long ones too
	bash test/run.sh -root -race

.PHONY: e2e
e2e: tools ## real registry, containerd, skopeo, crane and processes, long ones too
	bash test/run.sh -race ./test/e2e

.PHONY: chaos
chaos: tools ## FAULTS (1000) faults from SEED (the time) done to a pool of real processes, power cuts too where root, see test/chaos
	PATH="$(TOOLS):$$PATH" go test -race -v -timeout 60m ./test/chaos -seed $(SEED) -faults $(FAULTS) $(ROOT)

.PHONY: vm
vm: tools ## tests of containers, CRIU and dm-verity in a virtual machine with another kernel and control groups of version 2, see test/vm
	test/vm/run.sh

.PHONY: bench
bench: tools ## lithify beside mkfs.erofs and containerd's converter, see test/bench; then commits and restores, as root, and the queue
	PATH="$(TOOLS):$$PATH" go run ./test/bench
	go test ./convert/inflate ./erofs/verity -run '^$$' -bench "Reader|Tree" -benchtime 5x
	go test ./test/e2e -run '^$$' -bench "Commit|Restore" -benchtime 5x -test.root -timeout 30m
	go run ./cmd/lithify bench queue

.PHONY: fuzz
fuzz: ## every fuzz target of PKG (./...) for FUZZTIME (30s)
	bash test/fuzz.sh $(FUZZTIME) $(PKG)

.PHONY: clean
clean: ## remove what build made
	rm -rf bin
