"""The contracts, read from the vendor's own documents, and its own client, against a real server."""
