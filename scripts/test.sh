#!/bin/sh
# All tests, or those that the arguments name: most of them side by side, then those that need the machine for themselves.
# Most wait for processes rather than compute, so there are more at a time than a small machine has processors.
set -u

scripts="$(dirname "$0")"
export PYTEST="$scripts/../.venv/bin/pytest"
nothing=5 # pytest's exit code where no test was chosen
failed=""
chosen=""

some_of_them() {
    sh "$scripts/pytest.sh" "$@"
    case $? in
        0) chosen=yes ;;
        "$nothing") ;;
        *) failed=yes ;;
    esac
}

some_of_them -n 4 --dist loadgroup -m "not alone" "$@"
some_of_them -m alone "$@"
[ ! -s flaky-tests.txt ] || sed 's/^/FLAKY /' flaky-tests.txt
[ -z "$failed" ] || exit 1
[ -n "$chosen" ] || exit "$nothing"
