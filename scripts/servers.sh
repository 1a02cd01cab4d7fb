#!/bin/sh
# Install the servers that the integration tests start, Redis, RabbitMQ and PostgreSQL; openssl, which makes their
# certificates; systemd, which checks the unit in examples/; and the browser of the tests of pages. Do nothing if all are
# installed.
set -eu

PATH="$PATH:/usr/sbin:/usr/local/sbin"
missing=""
for package in redis-server rabbitmq-server openssl systemd chromium-headless-shell; do
    program=$package
    [ "$package" != systemd ] || program=systemd-analyze
    command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done
# Debian has this server's program outside of PATH.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need these packages, which are not installed:$missing. apt-get is missing; install them by hand." >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "The tests need these packages, which are not installed:$missing. Run as root: sh scripts/servers.sh" >&2
    exit 1
fi

# The tests start the servers themselves. Without this policy the packages try to start them as well, and if no init
# system runs, that fails the installation.
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
