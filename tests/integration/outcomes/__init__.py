"""How Celery's tasks end, as one table: each row is a task, how it is driven, and what is told of it."""
