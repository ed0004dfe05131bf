"""The task functions."""

import asyncio
from typing import Any

from benchmarks.mark import mark
from benchmarks.ours import menu
from benchmarks.ours.worker import app
from benchmarks.rows import insert_row, read_row


@app.implements(menu.noop)
async def noop(*, seq: int) -> dict[str, Any]:
    mark(seq)
    return {"seq": seq}


@app.implements(menu.sync_noop)
def sync_noop(*, seq: int) -> dict[str, Any]:
    mark(seq)
    return {"seq": seq}


@app.implements(menu.read)
def read(*, seq: int) -> dict[str, Any]:
    mark(seq)
    read_row(seq)
    return {"seq": seq}


@app.implements(menu.insert, atomic=True)
def insert(*, seq: int) -> dict[str, Any]:
    mark(seq)
    insert_row(seq)
    return {"seq": seq}


@app.implements(menu.waiting)
async def waiting(*, seq: int) -> dict[str, Any]:
    return {"seq": seq}


@app.implements(menu.hold)
async def hold(*, seq: int) -> None:
    await asyncio.sleep(3600 + seq)
