"""Runs tests again in one process that gevent has patched: `python -m tests.gevent`, or `make test-gevent`."""
