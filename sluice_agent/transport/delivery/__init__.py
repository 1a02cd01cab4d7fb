"""Delivery of the journal to its destinations, over HTTP."""
