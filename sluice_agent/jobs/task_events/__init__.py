"""The outcomes of Celery tasks that are jobs, from the events that agents and sidecars report.

Nothing here waits for a task: events are read as far as they were committed, and the database of jobs has a cursor up
to which their effects are in it.
"""
