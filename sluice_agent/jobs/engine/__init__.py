"""The engine: it moves runs whose time has come, claims those that may begin, and publishes a message for each.

One process of all that share a database runs it (`leader.py`). It has no state that a restart could lose: the rows are
the queue, and a message only means that an attempt may be started.
"""
