# Thin names for what cargo and the scripts do. `make help` lists them.

.PHONY: help run build test lint bench clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

run: ## build, prepare a catalogue on first use, serve it on 127.0.0.1:8080 (DATA=folder for your own, STORE=postgres://… for a database)
	@$(if $(STORE),PENSTOCK_DATABASE_URL="$(STORE)") scripts/run "$(DATA)"

build: ## both binaries in release, in target/release
	@scripts/ensure build && scripts/build release

test: ## every test; ends with the runner's closing line (ARGS='-E ...' or a name to choose)
	@scripts/ensure test && scripts/test $(ARGS)

lint: ## format, clippy, deploy files, checklist
	@scripts/ensure lint && scripts/lint

bench: ## engine latency per stage, requests per second through the proxy (DATA=folder for your own)
	@scripts/ensure bench && scripts/bench "$(DATA)"

clean: ## what was built here; data and the cache of third-party code stay
	@scripts/clean
