# What people and CI run. `make` alone lists the targets.
#
# All of it but `supervision-alone` uses one target directory and, but for that and `features`, one set of features, so that
# what one target compiled the next need not.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test check timed attack faults faults-messages bench soak rotations mutants generate check-tools subjects suite features fmt-check lint doc supervision-alone deny

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

run: ## Start the daemon, as `cargo run` does
	cargo run --locked

test: ## Install the servers that the tests start, then run the whole suite
	tests/setup
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(nproc)))} tests/in-memory cargo test --workspace --locked --no-fail-fast

check: check-tools subjects fmt-check ## Run all that CI runs, and print how long each part took
	@export RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings RUSTDOC=$(CURDIR)/tests/rustdoc; \
	$(MAKE) --no-print-directory timed PARTS=suite; \
	mkdir -p target; set -m; \
	nice -n 19 $(MAKE) --no-print-directory timed PARTS='lint-benches supervision-alone' >target/lint.log 2>&1 & lint=$$!; \
	set +m; status=0; trap 'kill -- -'$$lint' 2>/dev/null || true' EXIT; \
	$(MAKE) --no-print-directory timed PARTS='test features deny' || status=$$?; \
	wait $$lint || status=$$?; cat target/lint.log; exit $$status

attack: ## Attack the daemon for longer: SCALE times (10) as much of everything as the suite does
	tests/setup
	DOTMAC_ATTACK_SCALE=$${SCALE:-10} cargo test --workspace --locked --test daemon -- --nocapture --test-threads 1 attack::

faults: ## Do what databases do, for longer: 100 kills under load, kills before each statement, 200 first boots of three replicas, a million interleaved transactions
	tests/setup
	DOTMAC_FAULT_ROUNDS=100 DOTMAC_FAULT_STATEMENTS=1 DOTMAC_FAULT_BOOTS=200 DOTMAC_FAULT_EVENTS=1000000 \
	  cargo test --workspace --locked -- --nocapture killed_under_load killed_before first_boot interleaved processes_are_killed

faults-messages: ## Kill processes that send mails and webhooks KILLS times (10000, about an hour), at each step, counted at the far end
	tests/setup
	cargo build --workspace --bins --examples --locked
	DOTMAC_FAULT_KILLS=$${KILLS:-10000} cargo test --workspace --locked --test daemon -- --nocapture --test-threads 1 no_message_is_lost

bench: ## Measure what docs/benchmarks.md shows, each against its baseline, and write that file
	tests/setup --bench
	cargo bench --package dotmac --locked

soak: ## Break everything at random, FAULTS times (10000, some three hours), and see what holds
	tests/setup --bench
	DOTMAC_BENCH_FAULTS=$${FAULTS:-10000} cargo bench --package dotmac --locked -- faults

rotations: ## Rotate the database's user COUNT times (1000) under load: no query may fail
	tests/setup
	cargo build --workspace --examples --locked
	cargo test --workspace --locked --test rotations -- $${COUNT:-1000}

mutants: ## Change the code of ROOM (actors/supervision/src/supervisor) in every small way: which changes do the tests miss?
	tests/setup --mutants
	PATH=target/tools/bin:$$PATH cargo mutants --workspace --file "$${ROOM:-actors/supervision/src/supervisor}/**" \
	  --output target --timeout 300 --no-shuffle

generate: ## Write the generated files: docs/settings.md, deploy/dotmac.env.example, what modules document
	UPDATE_GENERATED=1 cargo test --workspace --locked --lib settings::

# ---- The parts of `check`; the suite itself compares the generated files with the code --------

# In `check` clippy is the compiler of our crates, as `cargo clippy` makes it for its own builds: what the suite compiles is
# linted on the way, which takes 4 % longer than without, and only benchmarks are left. The tools are installed before, by
# the plain compiler: cargo takes their crates for ours. Documentation is written where examples are run (tests/rustdoc).
#
# The suite waits for timers and servers for much of its time: what else there is to compile runs in what it leaves of the
# processor. That has a process group of its own (`set -m`), which ends with `check`: bash has its background jobs ignore
# Ctrl-C. It has no session of its own (`setsid`): Linux gives each session the same share of the processor, whatever `nice`
# says.
timed:
	@for part in $(PARTS); do \
	  began=$$SECONDS; $(MAKE) --no-print-directory $$part; echo "make $$part took $$((SECONDS - began)) s"; done

check-tools:
	tests/setup --check

subjects: ## Check the subjects of the last 100 commits: `scope: imperative`, at most 72 characters, no full stop
	@git log --no-merges --max-count 100 --format=%s | awk 'length > 72 || !/^[a-z][^:]*: [^ ].*[^.]$$/ { print "subject: " $$0; wrong = 1 } END { exit wrong }'

features: ## Test what is off by default: the Vault adapter, and the relay to NATS in the daemon
	cargo test --package dotmac --package dotmac-secrets --package dotmac-features --locked --features hashicorp_vault --lib --test openbao
	cargo build --package dotmac --package dotmac-secrets --package dotmac-features --locked --features nats --bin dotmac
	$${CARGO_TARGET_DIR:-target}/debug/dotmac config | grep --quiet DOTMAC_NATS_URL

fmt-check: ## Look whether the code is formatted
	cargo fmt --all -- --check

lint: ## Run clippy on all targets, warnings denied
	cargo clippy --workspace --all-targets --locked -- -D warnings

suite:
	tests/setup
	cargo test --workspace --locked --no-run

lint-benches:
	cargo test --workspace --bench '*' --locked --no-run

doc: ## Build the documentation, warnings denied
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

supervision-alone: ## Build the crate of actors with nothing but supervision
	CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-target}/alone cargo check --package dotmac-supervision --locked

deny: check-tools ## Look at bans, licences and sources of the dependencies
	target/tools/bin/cargo-deny --locked check bans licenses sources
