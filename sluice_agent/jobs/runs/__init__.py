"""Runs of jobs: how they begin, which states they go through, and what is done with them."""
