"""What a worker needs for attempts beside the requests: its server, outcomes that wait, and signs of life.

Nothing of Celery and nothing of a server enters: a pool of `serve` itself uses it as well.
"""
