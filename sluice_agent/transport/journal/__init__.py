"""The journal: events as lines in files of one directory, with a cursor for every destination.

Knows no endpoint and opens no connection.
"""
