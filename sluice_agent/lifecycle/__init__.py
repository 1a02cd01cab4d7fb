"""What both observers share: the transitions of a job, the ids and encoding of its events, and what may be captured.

Imports nothing of Celery, and no file or connection: `signals` and `monitor` feed it.
"""
