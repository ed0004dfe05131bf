"""What the worker does."""

from pgjobs.worker_app import app

from . import tasks


@app.implements(tasks.send_letter)
def send_letter(*, to: str) -> dict[str, str]:
    return {"sent": "letter", "to": to}
