"""Acting on jobs: retry and revoke, of one, of several, and of all that a filter selects.

Only `celery_client` imports Celery, and only if the server is given a broker.
"""
