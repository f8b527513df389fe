# zeroplane: make help

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: run test test-long lint bench conformance build package-azure package-aws dist/linux-amd64/zeroplane clean help

# The version of zeroplane, and the one of Kubernetes that its API and its kubectl report.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
KUBERNETES := $(shell sed -n 's/^[[:space:]]*k8s.io\/kubernetes v//p' go.mod)
COMPONENT := k8s.io/component-base/version
LDFLAGS := -s -w -X main.version=$(VERSION) \
	-X $(COMPONENT).gitVersion=v$(KUBERNETES) \
	-X $(COMPONENT).gitMajor=$(word 1,$(subst ., ,$(KUBERNETES))) \
	-X $(COMPONENT).gitMinor=$(word 2,$(subst ., ,$(KUBERNETES))) \
	-X $(COMPONENT).gitTreeState=clean

# Where `make run` keeps its cluster.
DATA ?= .cache/run
NODES ?= 3

# The files of the function app beside its binary.
APP := host.json $(patsubst functions/%,%,$(wildcard functions/*/function.json))

run: build ## start a cluster on this machine, with 3 simulated nodes, and say how to use it
	bin/zeroplane serve --data $(DATA) --simulate-nodes $(NODES)

test: ## run every suite (SUITES="core kubectl" for some)
	@tests/run.sh $(SUITES)

test-long: ## run every suite in its long form
	@ZEROPLANE_LONG=1 tests/run.sh $(SUITES)

lint: .cache/bin/golangci-lint ## check the house rules (PACKAGES=./core/... for some)
	.cache/bin/golangci-lint run $(PACKAGES)

bench: build ## measure zeroplane beside the upstream daemons
	go run ./tests/bench

conformance: build ## run Kubernetes' conformance tests here and on the upstream daemons (ARGS="-sig apps" for some)
	go run ./tests/conformance $(ARGS)

build: ## build bin/zeroplane
	CGO_ENABLED=0 go build -ldflags '$(LDFLAGS)' -o bin/zeroplane ./functions/zeroplane

package-azure: dist/linux-amd64/zeroplane ## make dist/zeroplane-azure.zip, the function app
	go run ./infra/pack -o dist/zeroplane-azure.zip zeroplane=$< $(foreach f,$(APP),$(f)=functions/$(f))

package-aws: dist/linux-amd64/zeroplane ## make dist/zeroplane-aws.zip, the Lambda function
	go run ./infra/pack -o dist/zeroplane-aws.zip zeroplane=$< bootstrap=infra/aws/bootstrap

# What function hosts run, whatever this machine is.
dist/linux-amd64/zeroplane:
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -ldflags '$(LDFLAGS)' -o $@ ./functions/zeroplane

clean: ## remove all that was built, and the cluster of `make run`
	rm -rf bin dist .cache

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The linter is built from the versions that its module pins, once for each of them.
.cache/bin/golangci-lint: tests/tools/go.mod tests/tools/go.sum
	cd tests/tools && go build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
