#!/usr/bin/env bash
# Runs the tests, after the set-up where it has not been done; arguments go to pytest: tests/run.sh -k decoding
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. ./path.sh || exit 1
exec python -m pytest "$@"
