"""Outbound webhooks: whatever decides that one is sent adds a row in its own transaction; a sender posts it until it is
taken. What it is about may not enter."""
