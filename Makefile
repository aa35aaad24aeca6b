# The commands of the project; `make help` lists them.

CARGO ?= cargo
CHROMIUM ?= chromium

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

.PHONY: instructions
instructions: release ## Count the user-mode instructions of each server per request (needs valgrind and python3)
	@python3 docs/instructions.py $(sort $(wildcard target/release/echo-*[!.d]))

.PHONY: lesson
lesson: release ## List the lessons: textbook claims, tried live; NAME=head-of-line plays one
	@target/release/lesson $(NAME)

.PHONY: lessons
lessons: release ## Play all lessons (under six minutes); what they found is in results/lessons.md
	target/release/lesson --all --no-pause --write results/lessons.md

.PHONY: release
release: ## Build servers, load generator and comparison, optimised
	$(CARGO) build --release --workspace --bins

.PHONY: test
test: ## Run all tests
	$(CARGO) test --workspace

.PHONY: test-page
test-page: ## Try the report in a browser (needs chromium and python3)
	@command -v $(CHROMIUM) >/dev/null || { echo "make test-page: no $(CHROMIUM); on Debian: apt-get install chromium" >&2; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "make test-page: no python3 venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
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
clean: ## Remove what was built (results stay)
	$(CARGO) clean
