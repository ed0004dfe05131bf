"""What the worker does."""

from pgjobs.worker_app import app

from . import tasks


@app.implements(tasks.send_letter, atomic=True, soft_limit=10, hard_limit=20)
def send_letter(*, to: str) -> dict[str, str]:
    return {"sent": "letter", "to": to}
