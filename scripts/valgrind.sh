#!/bin/sh
# Install valgrind, with which `make bench` counts instructions, where it is absent and this is root. Without it `make bench`
# leaves that part out.
set -eu

! command -v valgrind >/dev/null 2>&1 || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "valgrind is not installed: instructions are not counted. As root, with apt-get: sh scripts/valgrind.sh" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends valgrind
