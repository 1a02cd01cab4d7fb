"""The tests once more in one process that gevent has patched: `python -m tests.gevent`, or `make test-gevent`."""
