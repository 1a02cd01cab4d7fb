"""Projects that use sluice-agent as in the README."""
