# Everything runs on a bare Debian 12 as root: .ci/install brings what is missing.
# KEEP=1 make demo leaves the demo running. DURATION=10m SEED=7 make soak is a short
# soak with the faults of that seed; ONLY='newcomer|VPN' chooses faults. RUN='Churn|Killed' chooses for repeat.
# OLD=DIR make bench compares with the programs of an older release in DIR as well.

BIN      := bin
PROGRAMS := ./cmd/agentd ./cmd/agentctl ./cmd/weft-cni ./cmd/weft-netavark
# Without a repository it is empty, and the programs say what Go recorded.
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null)
GOFLAGS_ := -trimpath -ldflags '-s -w -X github.com/weft-net/weft/agent/api.release=$(VERSION)'
RUN      ?= TestAgentKilled|TestHundredsOfEndpoints|TestNamesOfADeadHost|TestAnotherAgent
COUNT    ?= 10
DURATION ?= 3h
SEED     ?= 0
ONLY     ?= .

.PHONY: build deb demo examples test check bench soak repeat clean

build:
	CGO_ENABLED=0 go build $(GOFLAGS_) -o $(BIN)/ $(PROGRAMS)

deb:
	cmd/agentd/dist/build-deb $(BIN)

demo:
	.ci/install demo
	$(MAKE) --no-print-directory build
	examples/quickstart/demo.sh $(if $(KEEP),--keep)

examples:
	.ci/install examples
	$(MAKE) --no-print-directory build
	.ci/examples

test:
	.ci/install test
	.ci/test

check:
	.ci/check

bench:
	.ci/install bench
	go test ./overlay/linux -run '^$$' -bench 10k -benchtime 20x
	WEFT_BENCH_OLD='$(OLD)' go test ./agent/hosts/bench -run '^$$' -bench . -benchtime 1x -timeout 30m

soak:
	.ci/install test
	go test -v -count=1 -timeout 0 ./agent/hosts/soak -args -duration $(DURATION) -seed $(SEED) -only '$(ONLY)'

repeat:
	.ci/install test
	go test -p 1 ./agent/hosts/... -run '$(RUN)' -count $(COUNT) -timeout 4h

clean:
	rm -rf $(BIN)
