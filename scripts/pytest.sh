#!/bin/sh
# Run the command in PYTEST with these arguments. In CI, repeat a failed test once, alone: if it passes, add its name to
# flaky-tests.txt and continue; if it fails again, exit with pytest's code.
set -u

unset PYTHONDONTWRITEBYTECODE # tests start hundreds of processes: each would compile the source again
flaky="flaky-tests.txt"
limit=10 # failed tests to repeat: if there are more, a slow machine is not the reason
directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT
trap 'exit 1' HUP INT TERM

# PYTEST is a command with its first arguments.
# shellcheck disable=SC2086
FAILED_TESTS="$directory/failed" $PYTEST "$@"
code=$?
if [ "$code" -ne 1 ] || [ "${CI:-}" != true ] || [ ! -s "$directory/failed" ]; then
    exit "$code"
fi
sort -u "$directory/failed" >"$directory/again"
if [ "$(wc -l <"$directory/again")" -gt "$limit" ]; then
    exit "$code"
fi
echo "test: repeating $(wc -l <"$directory/again") failed tests, alone"
: >"$directory/failed"
# shellcheck disable=SC2086
FAILED_TESTS="$directory/failed" $PYTEST -q -p no:cacheprovider "@$directory/again"
code=$?
if [ "$code" -le 1 ]; then
    grep -vxF -f "$directory/failed" "$directory/again" >>"$flaky"
fi
exit "$code"
