# Everything a developer or a packager runs. `make help` lists the targets.

GO          ?= go
PREFIX      ?= /usr/local
DESTDIR     ?=
SHARE        = $(DESTDIR)$(PREFIX)/share
UNITDIR     ?= $(PREFIX)/lib/systemd/system
PROGRAMS    ?= forwarder collector
BIN         ?= bin
VERSION     ?= $(shell sh deploy/version.sh version)
BUILT        = github.com/auditfleet/auditfleet/pkg/built
LDFLAGS     := -s -w -X main.version=$(VERSION) -X $(BUILT).commit=$(shell sh deploy/version.sh commit) -X $(BUILT).date=$(shell sh deploy/version.sh date)
# Without it (TRIMPATH=) what was compiled for tests need not be compiled again.
TRIMPATH    ?= -trimpath
DIST        ?= dist
FUZZTIME    ?= 10s
BENCHFLAGS  ?=

# ^C, at any time, leaves no temporary file, process or mount of what runs under it.
TIDY        := sh integration/tidy.sh

# Developer tools run by version, outside go.mod.
GOLANGCI    := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BUF         := $(GO) run github.com/bufbuild/buf/cmd/buf@v1.75.0
VULN_OF     ?= ./...
VULN        := $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0

export CGO_ENABLED = 0
# The version is ours to stamp: git refuses root a clone that is another user's, and the build failed with it.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

.DEFAULT_GOAL := help
.PHONY: help build install install-stock-names uninstall packages package-test run demo check formatted test race soak vmtest powertest cluster-test bench lint vuln fuzz docs api proto clean cross stock-peers

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/forwarder and bin/collector
	$(TIDY) $(GO) build $(TRIMPATH) -ldflags '$(LDFLAGS)' -o $(BIN)/ ./forwarder ./collector

cross: ## check that both architectures build
	for arch in amd64 arm64; do GOARCH=$$arch $(GO) build -o /dev/null ./forwarder ./collector || exit 1; done

INSTALL      = DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) UNITDIR=$(UNITDIR) sh deploy/install.sh
install: build ## install binaries, units, manual pages and completion below $(DESTDIR)$(PREFIX) (PROGRAMS=forwarder: of that one)
	for program in $(PROGRAMS); do $(INSTALL) install $$program bin || exit 1; done

uninstall: ## remove what install and install-stock-names have put there; configuration and data stay
	for program in $(PROGRAMS); do $(INSTALL) uninstall $$program || exit 1; done

packages: build ## .deb and .rpm for amd64 and arm64 in dist/ (ARCHES=amd64 FORMATS=deb: of those only)
	$(TIDY) env GO='$(GO)' STOCK_NAMES='$(STOCK_NAMES)' sh deploy/packages/build.sh $(DIST)

package-test: ## install, upgrade, remove and purge the packages in dist/ in a Debian of their own (needs root and debootstrap; some minutes)
	@$(TIDY) sh integration/package-test.sh $(DIST)

# On a host the names are the forwarder's; FROM=collector on a log host gives it those that it has, too.
FROM        ?= forwarder
STOCK_NAMES  = ausearch aureport aulast aulastlog $(if $(filter forwarder,$(FROM)),auditctl augenrules autrace ausyscall)
install-stock-names: install ## also links by which the programs answer to ausearch, auditctl …, with completion
	for name in $(STOCK_NAMES); do \
		ln -sf $(FROM) $(DESTDIR)$(PREFIX)/sbin/$$name && sh deploy/completion.sh bin $(FROM) $(SHARE) $$name || exit 1; \
	done

run: build ## one real kernel event, host to collector, found (KEEP=1 leaves it running)
	$(if $(KEEP),,$(TIDY) )$(GO) run ./integration/cmd/firstlight -bin bin $(if $(KEEP),-keep)

DEMO        ?= demo
demo: build ## a store of five hosts and five days in $(DEMO)/, for README's tour and questions (some seconds)
	$(TIDY) $(GO) run ./integration/cmd/demo -bin '$(BIN)' -dir '$(DEMO)'

stock-peers: # the tools we are compared with; a message where they cannot be had
	@$(TIDY) sh integration/stock-peers.sh

check: formatted ## quick, before a commit: build, vet, gofmt, who imports whom, and the tests under -short (two minutes on two cores)
	$(TIDY) $(GO) build ./...
	$(TIDY) $(GO) vet ./...
	$(TIDY) env GOGC=300 $(GO) test -short -vet=off -p 4 ./...

formatted: # as gofmt has it
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "gofmt would change:"; echo "$$files"; exit 1; }

# integration/gotest.sh is go test, and runs what failed once more alone. What takes longest begins first: ./integration, half of whose time
# waits for the kernel and for programs, the store over a cluster, which waits for that, and the comparisons of files with stores. `make check` and `make lint` vet.
test: stock-peers ## every test, the stock peers' included
	@$(TIDY) env GO='$(GO)' sh integration/gotest.sh -count=1 -vet=off -p=3 -timeout=30m ./integration ./collector/internal/store/clickhouse ./collector/internal/cli ./...

race: ## every package's quick tests under the race detector
	@$(TIDY) env GO='$(GO)' GORACE=atexit_sleep_ms=10 GOGC=300 CGO_ENABLED=1 sh integration/gotest.sh -count=1 -vet=off -short -race -timeout=30m $$($(GO) list ./... | grep -v /integration)

soak: ## the long runs: 300 kills of the store, 1,000 senders for ten minutes through 40 kills, a million records under chaos, days of ordinary work without a false alarm (SOAK_TIME=1h SOAK_KILLS=… SOAK_SENDERS=… SOAK_RECORDS=… SOAK_SEED=…)
	$(TIDY) $(GO) test -count=1 -tags soak -timeout 12h -v -run 'Soak|Siege|EveryLossOfPower|Quiet|LossADay|LossOfADay' ./collector/internal/head ./collector/internal/ledger ./collector/internal/server ./integration/soak ./pkg/seglog ./forwarder/internal/spool ./forwarder/internal/locallog

# ROWS=FirstBoot: of the table in integration/vmtest/README.md only those. LOGS=FOLDER gets what the guests' consoles showed, and each command.
ROWS        ?= .
vmtest: ## the packages on real hosts that have booted, under emulation: systemd, journald, logins, stock auditd (needs root, Debian and qemu; 4 minutes once, then some minutes a row)
	@sh integration/vmtest/missing.sh
	@$(MAKE) --no-print-directory packages ARCHES=amd64 FORMATS=deb DIST=dist/vmtest
	$(TIDY) env AUDITFLEET_VMTEST=$(CURDIR)/dist/vmtest AUDITFLEET_VMTEST_LOGS=$(if $(LOGS),$(abspath $(LOGS))) $(GO) test -count=1 -timeout 3h -parallel 2 -v -run '$(ROWS)' ./integration/vmtest

# Its disks are in memory where there is room: a test writes some GB.
MEMORY       = $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 6291456 ] 2>/dev/null && echo TMPDIR=/dev/shm)
# POWER_CUTS=1000 POWER_SECONDS=60: how many points, of how long a run; AUDITFLEET_SEED repeats one. POWER_KEEP=FOLDER keeps the disks that fail.
powertest: ## power cuts: collector and forwarder on virtual disks whose writes are replayed to 220 points each, without any of what was not flushed (root, qemu-storage-daemon; some minutes)
	$(MEMORY) AUDITFLEET_REQUIRE=1 $(TIDY) $(GO) test -count=1 -tags power -timeout 3h -v ./integration/powercut

cluster-test: stock-peers ## the store over real ClickHouse clusters on loopback: what the engine relies on, and servers killed, frozen, full and wiped during traffic (root; 15 minutes or so)
	AUDITFLEET_REQUIRE=1 $(TIDY) $(GO) test -count=1 -tags cluster -timeout 1h -v -run 'Cluster|Resends|Lagging|Quorum|Started|Keepers' ./integration/harness/cluster ./integration

bench: build stock-peers ## stock tools and ours side by side, as a table (BENCHFLAGS='-only search -size 20 -hosts 200': a fleet's log)
	$(TIDY) $(GO) run ./integration/bench -bin bin $(BENCHFLAGS)

lint: ## golangci-lint and gofmt
	$(GOLANGCI) run ./...

vuln: ## known vulnerabilities in what the programs call (asks vuln.go.dev)
	$(VULN) $(VULN_OF)

fuzz: ## every fuzz target for FUZZTIME (10s)
	@$(TIDY) env GO='$(GO)' sh integration/fuzz.sh $(FUZZTIME)

docs: ## write again what is made from tables: example files, lists in manual pages, METRICS.md
	$(GO) test -count=1 -run 'TestMadeFromTheTable|TestAllAreDocumented' ./collector/internal/cli ./forwarder/internal/cli ./pkg/metrics -args -update

api: ## lint proto/fleet, and compare it with what each release had: nothing that is in use may change its meaning
	cd proto/fleet && $(BUF) lint && for image in released/*.binpb; do $(BUF) breaking --against "$$image" || exit 1; done

proto: ## generate proto/fleet again
	cd proto/fleet && $(BUF) generate

clean: ## remove what was built
	rm -rf bin dist demo
