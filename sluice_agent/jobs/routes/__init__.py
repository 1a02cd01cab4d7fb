"""The API under ``/v1``: an application of its own, with its own errors, as its clients know another contract."""
