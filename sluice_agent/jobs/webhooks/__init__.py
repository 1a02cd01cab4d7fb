"""The webhooks of runs: one for each end of a run, which `server/webhooks/` sends. HTTP may not enter."""
