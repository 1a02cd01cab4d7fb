"""The agent's costs, as ratios that are measured in one execution: `make bench`."""
