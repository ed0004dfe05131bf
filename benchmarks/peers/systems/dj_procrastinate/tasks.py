from procrastinate.contrib.django import app

from benchmarks.mark import mark
from benchmarks.rows import insert_row


@app.task(name="noop")
def noop(seq):
    mark(seq)
    return {"seq": seq}


@app.task(name="insert")
def insert(seq):
    mark(seq)
    insert_row(seq)
    return {"seq": seq}
