"""The database of the jobs API: its tables, migrations, and connections to it."""
