"""A local Sluice, so that everything works with no account: ingest, job records and their list over one SQLite file.

It needs the extra ``sluice-agent[server]``. It knows the unified model and nothing of the agent: clients reach it over
HTTP only. Each subject of the API has a router in a separate file.
"""

from sluice_agent.server.app import create_app
from sluice_agent.server.runner import serve
from sluice_agent.server.store.retention import Keep

__all__ = ["Keep", "create_app", "serve"]
