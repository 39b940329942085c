# Everything a newcomer types. Each target installs what it needs and is quick when that is there.
.PHONY: help setup build examples demo check test torture planted upgrade bench screenshots docs

help:
	@sed -n 's/^## //p' Makefile

setup:
	@tests/scripts/setup

## make build      the release binary, target/release/cerebelum
build: setup
	cargo build --release --locked -p cerebelum-cli

## make examples   every example as a component, target/components/NAME.wasm
examples: build
	@examples/build

## make demo       a workflow survives kill -9 of its engine (DATABASE=postgres for PostgreSQL;
##                 KEEP=1 leaves the engine running, to look at its pages)
demo:
	@tests/scripts/setup demo $(DATABASE)
	@# Engine and component at once: neither keeps all cores busy to its end.
	@examples/build rust droplet-deployment & component=$$!; \
		cargo build --release --locked -p cerebelum-cli -p fake-cloud && wait $$component
	@KEEP="$(KEEP)" examples/droplet-deployment/demo $(DATABASE)

## make check      format, lints, types and tidiness, without the other tests
check: setup
	@tests/scripts/run check

## make test       everything CI runs, a real PostgreSQL included
test: setup
	@tests/scripts/run

## make torture    kills the engine for MINUTES (20) while executions run, and compares histories, ledger and answers after each kill;
##                 SEED= fixes mix and kills, DATABASE=sqlite|postgres takes one database instead of both,
##                 MODE=clock|disk|log one fault beside the kills instead of all three; exit code 1 when a law is broken
torture: setup
	@examples/build rust
	@# Built as the tests are: with the same features, so that nothing is compiled twice.
	cargo test --release --locked --workspace --no-run --quiet
	@examples/build python
	@MINUTES="$(MINUTES)" SEED="$(SEED)" DATABASE="$(DATABASE)" MODE="$(MODE)" target/release/torture

## make planted    plants one bug after the other in the engine and shows that a test fails each time
planted: setup
	@tests/scripts/planted

## make upgrade    an engine of the version before and one of this version on one PostgreSQL, under load;
##                 FROM= names the commit of the version before (the last one with an earlier schema)
upgrade: setup
	@examples/build rust
	@FROM="$(FROM)" tests/scripts/upgrade

## make bench      the figures of docs/performance.md (W=W2 for one, DATABASE=postgres for one database)
bench: build examples
	@# Built as everything else is: with the same features, so that nothing is compiled twice.
	cargo build --release --locked --workspace --bins --quiet
	@W="$(W)" DATABASE="$(DATABASE)" target/release/bench

## make screenshots  every page in light, in dark and on a phone, in target/screenshots, to be looked at;
##                 PAGES= takes those whose names contain it
screenshots: build
	@examples/build
	cargo build --release --locked --workspace --bin screenshots
	@target/release/screenshots "$(PAGES)"

## make docs       docs/cli.md and docs/openapi.json from the binary
docs: build
	target/release/cerebelum help-markdown > docs/cli.md
	target/release/cerebelum help-openapi > docs/openapi.json
