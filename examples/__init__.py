"""Projects that use sluice-agent as a reader of the README would."""
