"""The versions of the tables, in order. Each file changes the tables of the one before it."""
