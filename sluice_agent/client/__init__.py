"""A client of any Sluice's API, for the terminal: requests, lists, and the stream that it follows."""
