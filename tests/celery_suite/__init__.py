"""Celery's own test suite without and with the agent: test outcomes are equal, and job states match stored results."""
