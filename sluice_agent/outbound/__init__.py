"""Requests to addresses that users name: where they may go, and how long they may take. Nothing of a server or an agent
enters."""
