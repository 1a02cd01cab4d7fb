"""The stream of changes: committed frames from the store, joined in chunks that all subscribers of a connection share.

The writer's thread hands each commit over and goes on; all else runs in the event loop. A subscriber that does not read
is cut off, and resumes from where it was: nothing here waits for one.
"""
