# The commands of the project; `make help` lists them.

CARGO ?= cargo
CHROMIUM ?= chromium
# Cargo knows where its programs are: CARGO_TARGET_DIR and build.target move them.
RUN = $(CARGO) run --release --quiet --bin

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: bench
bench: release ## Compare the I/O models (under ten minutes); results in results/latest
	$(RUN) compare --

.PHONY: bench-all
bench-all: release ## Compare all models, also those that are not in `make bench` (under thirty minutes)
	$(RUN) compare -- --only all

.PHONY: bench-quick
bench-quick: release ## The same with one round and fewer points (under a minute)
	$(RUN) compare -- --profile quick

.PHONY: doctor
doctor: release ## Show what on this machine disturbs a comparison, and what to do about it
	@$(RUN) compare -- doctor

.PHONY: truth
truth: release ## Check the load generator against servers of known behaviour (about five minutes, on an idle machine)
	$(RUN) loadgen -- calibrate

.PHONY: instructions
instructions: release ## Count the user-mode instructions of each server per request (needs valgrind and python3)
	@$(CARGO) build --release --workspace --bins --message-format=json 2>/dev/null | python3 docs/instructions.py --built

.PHONY: lesson
lesson: release ## List the lessons, textbook claims tested live; NAME=head-of-line plays one
	@$(RUN) lesson -- $(NAME)

.PHONY: lessons
lessons: release ## Play all lessons (under six minutes); verdicts in results/lessons.md
	$(RUN) lesson -- --all --no-pause --write results/lessons.md

.PHONY: release
release: ## Build all programs, optimised
	$(CARGO) build --release --workspace --bins

.PHONY: test
test: ## Run all tests
	$(CARGO) test --workspace

.PHONY: torture
torture: release ## Put every server through faults, stops and an ordeal (30 s each; SECONDS=600 STOPS=100 for more, SERVERS="epoll uring" for some)
	$(RUN) torture -- $(SECONDS:%=--seconds %) $(STOPS:%=--stops %) $(SERVERS)

.PHONY: fuzz
fuzz: ## Give arbitrary bytes to what reads the bytes of others (a minute each, SECONDS=600 for more; needs cargo-fuzz and nightly)
	@$(CARGO) +nightly fuzz --version >/dev/null 2>&1 || { echo "make fuzz: cargo-fuzz or a nightly compiler is missing; rustup toolchain install nightly, cargo install cargo-fuzz --locked" >&2; exit 1; }
	@# What is found goes to a folder of its own, so that the committed inputs stay few.
	for target in session hlog server_command run; do \
		mkdir -p fuzz/target/found/$$target && $(CARGO) +nightly fuzz run $$target fuzz/target/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(or $(SECONDS),60) -rss_limit_mb=1024 -malloc_limit_mb=256 || exit 1; \
	done

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
	$(CARGO) clippy --workspace --all-targets -- --deny warnings

.PHONY: deny
deny: ## Check licences and versions of all libraries, and known vulnerabilities where the list is reachable (needs cargo-deny)
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "make deny: cargo-deny not found; cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny check licenses bans sources
	@if $(CARGO) deny fetch db 2>/dev/null; then $(CARGO) deny check --disable-fetch advisories; \
		else echo "make deny: the list of known vulnerabilities is not reachable, and was not checked"; fi

.PHONY: clean
clean: ## Remove build output; results stay
	$(CARGO) clean
