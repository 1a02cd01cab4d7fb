"""Alerts: rules of a file, what they measure in the database, their state, and the webhooks that report it."""
