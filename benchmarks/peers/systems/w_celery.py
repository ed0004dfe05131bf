"""The Celery app of all Celery rows; broker and results come from Django's settings."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.systems.dj_settings")

from celery import Celery

app = Celery("bench")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="noop")
def noop(seq):
    from benchmarks.mark import mark

    mark(seq)
    return {"seq": seq}


@app.task(name="insert")
def insert(seq):
    from benchmarks.mark import mark
    from benchmarks.rows import insert_row

    mark(seq)
    insert_row(seq)
    return {"seq": seq}
