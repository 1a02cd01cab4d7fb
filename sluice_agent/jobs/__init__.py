"""The jobs API: jobs that are triggered over HTTP, by schedule or by other jobs, and run by Celery's workers."""
