"""Celery apps that differ in how they install the agent."""
