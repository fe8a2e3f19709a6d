# Everything a contributor runs. `make help` lists it. Only Go is needed for test, check, race,
# fuzz, arm, demo and cover; the others install what they need on Debian as root, or say what to install.

GO        ?= go
LINT      := bin/golangci-lint-v2.15.0
GOFUMPT   := bin/gofumpt-v0.12.0
KAFKA_SH  := deploy/kafka-dev/kafka.sh
FUZZTIME  ?= 30s
ROUNDS    ?= 200
MINUTES   ?= 10
QUOTA     ?= 8000000000
DAYS      ?= 14
DEB_ARCHS ?= amd64 arm64 armhf
SEEDS     ?= 1000000
MAX_BYTES := 20000000 # of the binary for a gateway

# need COMMAND,PACKAGE: installs a missing command as root on Debian, or says how.
need = @command -v $(1) >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2); } \
	|| { echo "$(1) is missing; install it (Debian: sudo apt-get install $(2)) and try again"; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help build test check fmt vet tidy lint race fuzz cover arm demo format teeth \
	test-conformance test-clients test-page test-attack test-storm test-newcomers test-crash test-model test-site kafka-up kafka-down test-uplink test-kafka lab lab-scenarios deb test-deb test-check-readonly test-powercut test-uml test-device test-flash test-outage bench bench-ingress bench-forward bench-log bench-site

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

build: ## the static binary, bin/tributary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o bin/tributary ./cmd/tributary

test: ## all tests that need nothing but Go
	$(GO) test ./...

check: fmt vet tidy lint ## format, vet, the repository's own rules, lint

fmt: $(GOFUMPT)
	@out=$$($(GOFUMPT) -l .); [ -z "$$out" ] || { echo "not formatted (bin/gofumpt -w):"; echo "$$out"; exit 1; }

format: $(LINT) ## rewrite every file in the repository's format
	$(LINT) fmt ./...
	cd bench && ../$(LINT) fmt ./...
	cd ingest/clients && ../../$(LINT) fmt ./...

vet:
	$(GO) vet ./...
	cd bench && $(GO) vet ./...
	cd ingest/clients && $(GO) vet ./...

tidy:
	$(GO) test -count=1 .
	$(GO) mod tidy -diff
	cd bench && $(GO) mod tidy -diff
	cd bench && $(GO) test -count=1 -run "^TestPromlint$$" . # what the library needs stays out of go.mod
	cd ingest/clients && $(GO) mod tidy -diff
	cd deploy/deb && $(GO) mod tidy -diff

lint: $(LINT) ## golangci-lint (the first time builds it: about 5 minutes)
	$(LINT) run --build-tags kafka,powercut,device,outage,conformance,attack,lab,strace,page ./...
	cd bench && ../$(LINT) run ./...
	cd ingest/clients && ../../$(LINT) run ./...

# Lint tools are built outside go.mod, which would otherwise carry their 200 dependencies.
$(LINT):
	GOBIN=$(CURDIR)/bin GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv bin/golangci-lint $@

$(GOFUMPT):
	GOBIN=$(CURDIR)/bin GOFLAGS= $(GO) install mvdan.cc/gofumpt@v0.12.0
	mv bin/gofumpt $@

race: ## the tests under the race detector
	$(GO) test -race ./...

fuzz: ## every fuzz target for FUZZTIME (default 30s)
	@set -e; for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

# A fault is compiled in with a build tag. That it builds is tested first: a test that does not build has no teeth.
teeth: ## with each promise broken on purpose, a test must fail
	@broken() { tag=$$1; pkg=$$2; run=$$3; \
		$(GO) test -tags $$tag -run '^$$' $$pkg >/dev/null || { echo "$$pkg does not build with $$tag"; exit 1; }; \
		if $(GO) test -tags $$tag -count=1 -run $$run $$pkg >/dev/null 2>&1; \
		then echo "$$pkg $$run passes with $$tag"; exit 1; \
		else echo "$$pkg $$run fails with $$tag, as it must"; fi; }; \
	for tag in break_fsync break_retry break_header break_padding; do broken $$tag ./log/store/ '^TestCrash$$'; done; \
	broken break_truncate ./log/store/ '^TestRot$$'; \
	broken break_probe ./log/store/ '^TestProbe$$'; \
	broken break_fence ./sync/uplink/ '^TestChaos$$'; \
	broken break_qos2 ./edge/ '^TestQoS2OverRestart$$'; \
	broken break_round ./sync/handoff/ '^TestSite$$'; \
	export SEEDS=2000; for tag in break_copyack break_fence; do broken $$tag ./edge/sitetest/ '^TestSite$$'; done

cover: ## test coverage, to cover.html
	$(GO) test -coverpkg=./... -coverprofile=cover.out ./...
	$(GO) tool cover -func=cover.out | tail -1
	$(GO) tool cover -html=cover.out -o cover.html

arm: ## static builds for arm64 and ARMv6 into dist/, without the demo's Kafka, with the limit on their size
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build -tags nodemo -trimpath -ldflags='-s -w' -o dist/tributary-arm64 ./cmd/tributary
	CGO_ENABLED=0 GOOS=linux GOARCH=arm GOARM=6 $(GO) build -tags nodemo -trimpath -ldflags='-s -w' -o dist/tributary-armv6 ./cmd/tributary
	@for f in dist/tributary-arm64 dist/tributary-armv6; do \
		n=$$(wc -c < $$f); echo "$$f $$n bytes"; \
		[ $$n -le $(MAX_BYTES) ] || { echo "$$f is larger than $(MAX_BYTES) bytes"; exit 1; }; \
	done

# The time in a package, and its version, are those of the commit: who builds it again gets the same bytes.
deb: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
deb: export DEB_VERSION = 0.1.0~$(shell git log -1 --date=format:%Y%m%d%H%M%S --format=%cd)
deb: ## Debian packages for amd64, arm64 and armhf (ARMv6) into dist/, the same bytes each time; DEB_ARCHS
	deploy/deb/build.sh $(DEB_ARCHS)

test-deb: ## the package in a Debian 12 of its own: installed, a message to Kafka, purged with and without unforwarded records (root)
	deploy/deb/test.sh

demo: ## devices, a cut uplink and a killed process, counted in Kafka
	$(GO) run ./cmd/tributary demo --for 20s --cut-uplink 5s --kill

kafka-up: ## start a real Apache Kafka on loopback (Java and Maven)
	$(KAFKA_SH) up

kafka-down: ## stop it
	$(KAFKA_SH) down

# It has a Kafka of its own, so that one that is up stays as it is.
test-uplink: export KAFKA_PORT = 19092
test-uplink: export KAFKA_CTRL_PORT = 19093
test-uplink: export KAFKA_ACL = 1
test-uplink: ## the way to Kafka alone, and a node with a wrong clock, against the real Kafka
	$(KAFKA_SH) up
	KAFKA=127.0.0.1:$$KAFKA_PORT $(GO) test -tags kafka -count=1 -timeout 20m -v -run 'Real|^TestWrongClock$$' ./sync/uplink/ ./edge/; \
		code=$$?; $(KAFKA_SH) down; exit $$code

test-kafka: ## the whole chain against the real Kafka, with kills and black holes (root)
	$(call need,ip,iproute2)
	$(call need,nft,nftables)
	$(call need,mosquitto_pub,mosquitto-clients)
	$(GO) test -tags kafka -count=1 -timeout 40m -v ./edge/edgetest/

lab: ## a site of NODES gateways in network namespaces, with the real Kafka, through ROUNDS faults (root; 3, 30; also DEVICES, RATE, FREEZE, SEED, BREAK)
	$(call need,ip,iproute2)
	$(call need,nft,nftables)
	$(GO) test -tags lab -count=1 -timeout 3h -v -run '^Test(Plot|Lab)$$' ./edge/edgetest/

lab-scenarios: ## the same site in scenes with exact outcomes: one dies for good, returns, is cut off, joins, leaves, is upgraded (root)
	$(call need,ip,iproute2)
	$(call need,nft,nftables)
	$(GO) test -tags lab -count=1 -timeout 30m -v -run '^TestLabScenarios$$' ./edge/edgetest/

test-conformance: ## each statement of MQTT 3.1.1 and 5.0 about a server, of a node or of MQTT_ADDR, and mosquitto beside it
	$(call need,mosquitto,mosquitto)
	$(GO) test -tags conformance -count=1 -timeout 20m -parallel 8 -v ./ingest/conformance/

# Without a package named, go test shows what a test says though it passes: which ones were skipped.
test-attack: ## bad packets, slow clients and no file descriptors against a running node (a minute)
	cd ingest/attack && $(GO) test -tags attack -short -count=1 -timeout 5m

test-storm: ## the same and more: 10,000 devices at once, 128 MB, FUZZTIME of random packets (root; 15 minutes)
	FUZZTIME=$(FUZZTIME) $(GO) test -tags attack -count=1 -timeout 60m -v ./ingest/attack/

test-newcomers: ## 10,000 devices come at once with tokens or certificates: what the acks of the others take (root; 6 to 10 minutes)
	$(GO) test -tags attack -count=1 -timeout 60m -v -run '^Test(Token|Certificate)Storm$$' ./ingest/attack/

test-clients: ## the MQTT clients of others against a node: mosquitto, and paho and mqtt.js in four languages
	ingest/clients/install.sh
	cd ingest/clients && $(GO) test -count=1 -timeout 60m -parallel 2 -v .

# go test is content with a test that is not there; grep is not.
test-check-readonly: ## under strace, check opens nothing for writing and no socket
	$(call need,strace,strace)
	$(GO) test -tags strace -count=1 -timeout 10m -v -run '^TestCheckOnlyReads$$' ./cmd/tributary/ | tee /dev/stderr | grep -q '^--- PASS: TestCheckOnlyReads '

# Screenshots go to SHOTS: make test-page SHOTS=docs renews those of the README.
test-page: ## the status page in headless Chromium, through real faults (Node.js; root installs it and Chromium; 3 minutes)
	edge/page/browser/install.sh
	SHOTS=$(abspath $(SHOTS)) $(GO) test -tags page -count=1 -timeout 10m -v -run '^TestPage$$' ./edge/

test-crash: ## SEEDS random lives of a log with power cuts and a failing disk (default 1000000: 20 minutes on 2 cores)
	SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 24h -v -run '^TestCrash$$' ./log/store/

test-model: ## SEEDS random lives of a whole site, and each rule broken on purpose (default 1000000: up to an hour on 2 cores)
	SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 24h -v ./sync/model/

test-site: SEEDS = 20000
test-site: ## SEEDS random lives of a site in a bubble, the real code with every fault (default 20000: 40 minutes on 2 cores)
	SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 24h -v -run '^TestSite$$' ./edge/sitetest/

test-powercut: ## ROUNDS power cuts, half on ext4, half on XFS (root; FS=ext4 for one alone)
	$(call need,mkfs.ext4,e2fsprogs)
ifneq ($(FS),ext4)
	$(call need,mkfs.xfs,xfsprogs)
endif
	ROUNDS=$(ROUNDS) $(GO) test -tags powercut -count=1 -timeout 60m -v -run '^TestPowerCut' ./log/store/

test-uml: ## ROUNDS guests with a kernel of their own, each killed at any moment (root)
	$(call need,mkfs.ext4,e2fsprogs)
	$(call need,linux.uml,user-mode-linux)
	ROUNDS=$(ROUNDS) $(GO) test -tags powercut -count=1 -timeout 60m -v -run '^TestUML' ./log/store/

test-outage: ## how long 8 GB bear an outage of Kafka at 200 records/s, in scaled time (half an hour; QUOTA, DAYS)
	QUOTA=$(QUOTA) DAYS=$(DAYS) $(GO) test -tags outage -count=1 -timeout 3h -v -run '^TestOutage$$' ./log/store/

test-device: ## what a commit and a start cost the device, counted on a real ext4 (root)
	$(call need,mkfs.ext4,e2fsprogs)
	$(call need,losetup,mount)
	$(GO) test -tags device -count=1 -timeout 10m -v -run 'Device$$' ./log/store/

test-flash: ## MINUTES of telemetry on a real ext4: the card's life, and the node's figure of it (root)
	$(call need,mkfs.ext4,e2fsprogs)
	MINUTES=$(MINUTES) $(GO) test -tags device -count=1 -timeout 90m -v -run FlashLife ./edge/

bench: ## speed beside mosquitto, nats-server and the bare disk; sizes
	cd bench && $(GO) run . $(BENCH) mqtt size

bench-ingress: ## the front door beside mosquitto, nats-server, mochi and its own limit (6 minutes after the first build)
	cd bench && $(GO) run ./ingress $(BENCH)

bench-site: ## what a site costs and how soon it helps: take-over, idle traffic, copies, catch-up (root; 5 minutes, 4 GiB)
	$(call need,ip,iproute2)
	$(call need,nft,nftables)
	$(GO) test -tags lab -count=1 -timeout 30m -v -run '^TestSiteFigures$$' ./edge/edgetest/

bench-log: ROUNDS = 12
bench-log: ## the log beside other logs and the bare disk, in ROUNDS rounds (root; 4 GiB)
	$(call need,mkfs.ext4,e2fsprogs)
	$(call need,losetup,mount)
	cd bench && $(GO) run ./logs -rounds $(ROUNDS) $(BENCH)

bench-forward: ## a backlog to the real Kafka, against a plain producer
	cd bench && $(GO) run . $(BENCH) forward
