#!/bin/sh
# Build the wheel into build/wheel, and copy everything but the package to build/tree: tests that run there can import
# the package from where the wheel is installed only. Fail if the wheel lacks a file of the package.
set -eu

cd "$(dirname "$0")/.."
rm -rf build/wheel build/tree
mkdir -p build/tree
.venv/bin/python -m pip --disable-pip-version-check -qq wheel --no-deps --no-build-isolation -w build/wheel .
.venv/bin/python scripts/check_wheel.py build/wheel/*.whl
cp -R .ci tests examples docs scripts Makefile mkdocs.yml pyproject.toml constraints.txt LICENSE ./*.md build/tree/
ln -s ../../flaky-tests.txt build/tree/flaky-tests.txt
