#!/bin/sh
# Run the unit tests, which need no server and no network, with these arguments of pytest. A file of tests runs in one
# process, as its tests share a slow set-up. Their files are in memory, if it has a file system with room: on a disk,
# each cursor that is saved takes 2 ms.
set -u

needed=1000000 # kB
free="$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')"
if [ "${free:-0}" -ge "$needed" ]; then
    TMPDIR="$(mktemp -d /dev/shm/unit-tests.XXXXXX)"
    export TMPDIR
    trap 'rm -rf "$TMPDIR"' EXIT
    trap 'exit 1' HUP INT TERM
fi
sh "$(dirname "$0")/pytest.sh" -q -n 3 --dist loadfile tests/unit "$@"
