"""Support of the tests: a strict wire validator, a misbehaving endpoint, real servers, workers and producers.

No check in here imports `sluice_agent`, as it must not share the agent's mistakes. Only `capture_log`, `local_sluice`,
`queue_sampling` and `running_monitor`, which run parts of it, do.
"""
