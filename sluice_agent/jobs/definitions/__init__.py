"""Jobs as they are defined: their settings and versions, and which job waits for which."""
