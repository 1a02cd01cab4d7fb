"""What the tests stand on: a strict wire validator, an endpoint that misbehaves, real servers, workers and producers.

Nothing in here imports `sluice_agent`: what checks the agent must not share its mistakes.
"""
