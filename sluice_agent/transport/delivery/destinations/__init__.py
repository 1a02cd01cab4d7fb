"""The endpoints that events are sent to, a file each."""
