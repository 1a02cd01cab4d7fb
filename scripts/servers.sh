#!/bin/sh
# Installs the servers that the integration tests start for themselves, Redis and RabbitMQ; openssl, which makes them
# certificates; and systemd, which checks the unit in examples/. Does nothing when all are there.
set -eu

PATH="$PATH:/usr/sbin:/usr/local/sbin"
missing=""
for package in redis-server rabbitmq-server openssl systemd; do
    program=$package
    [ "$package" != systemd ] || program=systemd-analyze
    command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Needed for the tests and not installed:$missing. There is no apt-get here; install them by hand." >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Needed for the tests and not installed:$missing. Run as root: sh scripts/servers.sh" >&2
    exit 1
fi

# The tests start servers of their own. Without this policy the packages try to start theirs as well, and where no
# init system runs, their failure to do so would fail the installation.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ] && [ ! -d /run/systemd/system ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of names
apt-get install -q -y --no-install-recommends $missing
