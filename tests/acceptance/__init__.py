"""What the server was promised to do, in full size: `make acceptance`. It takes an hour, on a machine that is quiet."""
