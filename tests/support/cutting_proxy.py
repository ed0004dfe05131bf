"""A TCP proxy that cuts connections at a random byte of what is asked or of what is answered.

    with CuttingProxy.cutting("host=127.0.0.1 port=8000", share=0.3, seed=7) as proxy:
        ask(f"http://127.0.0.1:{proxy.port}/")

`cuts` counts them by way: "request", "answer".
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from tcp_proxy import PIECE_BYTES, Link, TcpProxy

# What a small request and its answer have at least: a cut beyond the last byte is none.
LENGTHS = {"request": 300, "answer": 550}


class CuttingProxy(TcpProxy):
    """Cuts a `share` of the connections, each after a number of bytes drawn for it."""

    share = 0.0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.cuts: Counter[str] = Counter()
        self.connections = 0
        self._dice = random.Random()  # noqa: S311 # nothing secret
        self._left: dict[Link, tuple[str, int]] = {}

    @classmethod
    @contextmanager
    def cutting(cls, url: str, *, share: float, seed: int) -> Iterator[Self]:
        """Run one in front of `url`; the same seed draws the same cuts."""
        with cls.before(url) as proxy:
            proxy.share = share
            proxy._dice.seed(seed)
            yield proxy

    async def _pass(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        if self._dice.random() < self.share:
            way = self._dice.choice([*LENGTHS])
            self._left[link] = (way, self._dice.randrange(LENGTHS[way]))
        try:
            await super()._pass(link, reader, writer)
        finally:
            self._left.pop(link, None)

    async def _pump(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_request: bool,
    ) -> None:
        way = "request" if is_request else "answer"
        if self._left.get(link, ("", 0))[0] != way:
            await super()._pump(link, reader, writer, is_request=is_request)
            return
        left = self._left[link][1]
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece[:left])
            await writer.drain()
            left -= len(piece)
            if left < 0:
                self.cuts[way] += 1
                return  # which ends the other way as well
