"""The site: ``POST /orders/{order}`` publishes a job."""

from fastapi import FastAPI

from examples.fastapi_app.tasks import charge

app = FastAPI()


@app.post("/orders/{order}")
def place(order: str) -> dict[str, str]:
    """Publish the job of an order. A `def` route runs in a thread: the broker may take its time."""
    return {"job": charge.delay(order).id}
