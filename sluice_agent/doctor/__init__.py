"""The checks of `sluice-agent doctor`, functions that yield findings.

Only `celery_app` imports Celery: the other checks work even if no worker can be started.
"""
