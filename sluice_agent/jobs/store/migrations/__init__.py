"""The migrations of the jobs API's tables. They have a table of versions, and numbers, of their own."""
