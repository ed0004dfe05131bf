"""What the worker does."""

from pgjobs.worker_app import app

from . import tasks


@app.implements(tasks.send_postcard)
def send_postcard(*, to: str) -> dict[str, str]:
    return {"sent": "postcard", "to": to}
