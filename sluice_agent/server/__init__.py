"""A local Sluice, so that everything works with no account: ingest, job records and their list over one SQLite file.

It needs the extra ``sluice-agent[server]``, but for the filters of a list, which the terminal shares. It knows the
unified model and nothing of the agent: clients reach it over HTTP only. Each subject of the API has a router in a
separate file.
"""
