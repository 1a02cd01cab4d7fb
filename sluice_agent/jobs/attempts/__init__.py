"""One attempt of a run: the request to its endpoint, what its answer means, and what follows.

Nothing of a server enters: workers import it without the extra `server`.
"""
