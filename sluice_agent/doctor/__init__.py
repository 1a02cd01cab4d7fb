"""What `sluice-agent doctor` looks at. Each check is a function that answers with findings and never raises.

Only `celery_app` imports Celery: the other checks work beside a worker that can't be started.
"""
