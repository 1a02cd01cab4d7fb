"""Celery apps that differ in how they bring in the agent."""
