"""The server's half of an attempt: a worker starts it with a ticket, reports that it is alive, and finishes it."""
