"""Alembic's environment: the migrations run on the connection, and in the transaction, of who opens the database."""

from alembic import context

from sluice_agent.jobs.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
