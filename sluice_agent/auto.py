"""Importing this module installs the agent: ``celery -A app worker -I sluice_agent.auto``."""

from sluice_agent import install

install()
