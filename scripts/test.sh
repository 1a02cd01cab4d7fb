#!/bin/sh
# Run the tests that the arguments name: first the parallel ones, then those that are marked `alone`.
# Most tests wait for processes rather than compute, so more run at a time than a small machine has processors. The command
# in BESIDE runs beside the parallel tests; its output follows theirs. The last lines say how long each part took.
set -u

scripts="$(dirname "$0")"
export PYTEST="${PYTEST:-$scripts/../.venv/bin/pytest}"
no_tests=5 # pytest's exit code if no test was selected
failed=""
chosen=""
PART_TIMES="$(mktemp)"
export PART_TIMES
trap 'rm -f "$PART_TIMES"' EXIT

run_tests() {
    sh "$scripts/pytest.sh" "$@"
    case $? in
        0) chosen=yes ;;
        "$no_tests") ;;
        *) failed=yes ;;
    esac
}

beside=""
if [ -n "${BESIDE:-}" ]; then
    output="$(mktemp)"
    $BESIDE >"$output" 2>&1 &
    beside=$!
    trap 'rm -f "$output" "$PART_TIMES"' EXIT
    trap 'kill "$beside"; exit 1' HUP INT TERM
fi
run_tests -n 4 --dist loadgroup -m "not alone" "$@"
if [ -n "$beside" ]; then
    wait "$beside" || failed=yes
    cat "$output"
fi
export PART=alone
run_tests -m alone "$@"
sed 's/^/took: /' "$PART_TIMES"
[ ! -s flaky-tests.txt ] || sed 's/^/FLAKY /' flaky-tests.txt
[ -z "$failed" ] || exit 1
[ -n "$chosen" ] || exit "$no_tests"
