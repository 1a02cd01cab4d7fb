"""``make demo``: the shop of `examples.celery_app` beside a local Sluice, with every outcome, and a report on them."""
