#!/bin/sh
# Install the built wheel into build/VENV, a venv over VENV: it has the packages of that, and the wheel in place of its
# editable install.
set -eu

cd "$(dirname "$0")/.."
below="$PWD/$1"
above="build/$1"
"$below/bin/python" -m venv --clear --without-pip "$above"
purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
"$below/bin/python" -c "$purelib" >"$("$above/bin/python" -c "$purelib")/below.pth"
"$below/bin/python" -m pip --disable-pip-version-check -qq --python "$above/bin/python" \
    install --no-deps --no-index build/wheel/*.whl
