"""A local Sluice, so that everything works with no account: ingest, job records and their list over one SQLite file.

It needs the extra ``sluice-agent[server]``. It knows the unified model and nothing of the agent: what speaks to it does
so over HTTP. Each subject of the API has a router in a file of its own.
"""

from sluice_agent.server.app import create_app
from sluice_agent.server.runner import serve

__all__ = ["create_app", "serve"]
