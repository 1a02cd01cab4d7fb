"""What the server was promised to do, in full size: `make acceptance`, on a machine that is quiet."""
