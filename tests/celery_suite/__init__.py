"""Celery's own test suite, without the agent and with it: each test ends alike, each job as its stored result says."""
