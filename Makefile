# The commands of the project; `make help` lists them.

CARGO ?= cargo

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: bench
bench: release ## Compare the five models (under ten minutes); results in results/latest
	target/release/compare

.PHONY: bench-quick
bench-quick: release ## The same in one short round of fewer points (under a minute)
	target/release/compare --profile quick

.PHONY: truth
truth: ## Try the load generator on servers whose answer is known (about five minutes; on an idle machine)
	$(CARGO) build --release --package loadgen
	target/release/loadgen calibrate

.PHONY: release
release: ## Build servers, load generator and comparison, optimised
	$(CARGO) build --release --workspace --bins

.PHONY: test
test: ## Run all tests
	$(CARGO) test --workspace

.PHONY: lint
lint: ## Check formatting and run clippy; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets

.PHONY: clean
clean: ## Remove what was built (results stay)
	$(CARGO) clean
