#!/bin/sh
# The command in PYTEST, with these arguments. In CI a test that fails is run once more, alone: if it passes then, the
# run goes on, and the test's name is added to flaky-tests.txt; if it fails again, the run fails.
set -u

flaky="flaky-tests.txt"
most=10 # failed tests that are run once more: where there are more, the machine is not to blame
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM

# PYTEST is a command with its first arguments.
# shellcheck disable=SC2086
FAILED_TESTS="$folder/failed" $PYTEST "$@"
code=$?
if [ "$code" -ne 1 ] || [ "${CI:-}" != true ] || [ ! -s "$folder/failed" ]; then
    exit "$code"
fi
sort -u "$folder/failed" >"$folder/again"
if [ "$(wc -l <"$folder/again")" -gt "$most" ]; then
    exit "$code"
fi
echo "test: $(wc -l <"$folder/again") failed, once more, alone"
: >"$folder/failed"
# shellcheck disable=SC2086
FAILED_TESTS="$folder/failed" $PYTEST -q -p no:cacheprovider "@$folder/again"
code=$?
if [ "$code" -le 1 ]; then
    grep -vxF -f "$folder/failed" "$folder/again" >>"$flaky"
fi
exit "$code"
