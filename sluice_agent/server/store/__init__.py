"""The database: its schema and migrations, the one writer, and retention."""
