"""A job's record: a pure function of its events, independent of the order in which they arrived. No I/O."""
