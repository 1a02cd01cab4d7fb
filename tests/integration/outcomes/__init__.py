"""The ends of Celery's tasks as one table: each row is a task, the way to run it, and the events to expect."""
