"""Queries that answer the API's reads, a file per subject. They change nothing."""
