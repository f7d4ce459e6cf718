# The menu of commands. `just` is not needed: each line can be run as it is.

# What there is.
default:
    @just --list --unsorted

# Transcode a video on this machine.
run *args:
    scripts/run {{args}}

# Every check and every test, as in CI.
test *filter:
    scripts/test {{filter}}

# All checks without tests, or the named stages: fmt shell typos clippy features doc deny.
check *stages:
    scripts/check {{stages}}

# Format the sources.
fmt:
    cargo fmt --all

# Layout, arrows between crates, circles, long functions, unused dependencies, wording, documents.
structure:
    cargo test --locked -p splitreel --test it -- structure:: documents::

# The services under seeded faults.
simulate *args:
    scripts/simulate {{args}}

# A real cluster whose processes are killed at random.
storm *args:
    scripts/storm {{args}}

# Every source of the corpus through the program.
corpus *args:
    scripts/corpus {{args}}

# Speed: run or cluster.
bench *args:
    scripts/bench {{args}}

# Random requests to the HTTP API.
fuzz-api *args:
    scripts/fuzz-api {{args}}

# docker-compose.yml, from a clean start.
compose-check *args:
    scripts/compose-check {{args}}
