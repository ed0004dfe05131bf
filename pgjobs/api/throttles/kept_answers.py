"""Answers that are kept until their request holds nothing any more."""

from pgjobs.api.http.bodylimit import Message, Send

# Bytes of one, and of all.
MOST_KEPT, MOST_KEPT_IN_ALL = 4 * 1024 * 1024, 64 * 1024 * 1024


class Store:
    """How many bytes of answers are kept in all."""

    def __init__(self) -> None:
        self.kept = 0

    def has_room(self, length: int) -> bool:
        return length <= MOST_KEPT and self.kept + length <= MOST_KEPT_IN_ALL


class KeptAnswer:
    """Stands in for the client, and keeps an answer whose length is known while there is room.

    Django gives its connection back after the last byte is sent, and a client may read slowly.
    """

    def __init__(self, send: Send, store: Store) -> None:
        self._send = send
        self._store = store
        self._kept: list[Message] = []
        self._length: int | None = None  # of what is kept

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        if self._length is None:
            await self._send(message)
        else:
            self._kept.append(message)

    async def send(self) -> None:
        """Give the client what was kept."""
        for message in self._kept:
            await self._send(message)

    def forget(self) -> None:
        """Keep nothing any more."""
        self._store.kept -= self._length or 0
        self._kept, self._length = [], None

    def _begin(self, start: Message) -> None:
        lengths = [int(v) for k, v in start["headers"] if k.lower() == b"content-length"]
        if lengths and self._store.has_room(lengths[0]):
            self._length = lengths[0]
            self._store.kept += self._length
