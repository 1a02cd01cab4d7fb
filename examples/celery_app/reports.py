"""Sales reports: one job for every region, and one that waits for all of them."""

import random
import time

from celery import chord

from examples.celery_app.celery import app

REGIONS = ("north", "east", "south", "west")


@app.task(name="reports.regional_sales")
def regional_sales(region: str) -> int:
    """Return the turnover of a region, in cents."""
    time.sleep(random.uniform(0.05, 0.2))
    return random.randint(100_000, 900_000)


@app.task(name="reports.sales_report")
def sales_report(turnovers: list[int]) -> dict[str, int]:
    """Return the total turnover of all regions."""
    time.sleep(0.05)
    return {"regions": len(turnovers), "turnover": sum(turnovers)}


@app.task(name="reports.nightly")
def nightly() -> None:
    """Start the report: all regions at once, then their sum."""
    chord(regional_sales.s(region) for region in REGIONS)(sales_report.s())
