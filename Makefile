# The commands of the project; `make help` lists them.

CARGO ?= cargo
CHROMIUM ?= chromium

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: bench
bench: release ## Compare the I/O models (under ten minutes); results in results/latest
	target/release/compare

.PHONY: bench-all
bench-all: release ## Compare all models, also those that are not in `make bench` (under thirty minutes)
	target/release/compare --only all

.PHONY: bench-quick
bench-quick: release ## The same with one round and fewer points (under a minute)
	target/release/compare --profile quick

.PHONY: truth
truth: ## Check the load generator against servers of known behaviour (about five minutes, on an idle machine)
	$(CARGO) build --release --package loadgen
	target/release/loadgen calibrate

.PHONY: instructions
instructions: release ## Count the user-mode instructions of each server per request (needs valgrind and python3)
	@python3 docs/instructions.py $(filter-out %.d,$(sort $(wildcard target/release/echo-*)))

.PHONY: lesson
lesson: release ## List the lessons, textbook claims tested live; NAME=head-of-line plays one
	@target/release/lesson $(NAME)

.PHONY: lessons
lessons: release ## Play all lessons (under six minutes); verdicts in results/lessons.md
	target/release/lesson --all --no-pause --write results/lessons.md

.PHONY: release
release: ## Build all programs, optimised
	$(CARGO) build --release --workspace --bins

.PHONY: test
test: ## Run all tests
	$(CARGO) test --workspace

.PHONY: torture
torture: release ## Put every server through faults, stops and an ordeal (30 s each; SECONDS=600 STOPS=100 for more, SERVERS="epoll uring" for some)
	target/release/torture $(SECONDS:%=--seconds %) $(STOPS:%=--stops %) $(SERVERS)

.PHONY: test-page
test-page: ## Test the report in a browser (needs chromium and python3)
	@command -v $(CHROMIUM) >/dev/null || { echo "make test-page: $(CHROMIUM) not found; on Debian: apt-get install chromium" >&2; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "make test-page: the Python module venv is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(CARGO) build --package compare
	python3 -m venv target/test-page
	target/test-page/bin/pip install --quiet --disable-pip-version-check --requirement crates/compare/tests/page/requirements.txt
	target/test-page/bin/python -B -m pytest -p no:cacheprovider --basetemp target/test-page/reports \
		crates/compare/tests/page --chromium $(CHROMIUM) $(PAGE_RUN:%=--run %)

.PHONY: lint
lint: ## Check formatting and run clippy; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets

.PHONY: clean
clean: ## Remove build output; results stay
	$(CARGO) clean
