"""What is built for the package index, as users have it: `make packages`."""
