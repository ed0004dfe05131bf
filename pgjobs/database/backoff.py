"""Backoff: how long to wait before the database is asked again."""

import random

MIN_CEILING_SECONDS = 0.2
MAX_CEILING_SECONDS = 5.0


class Backoff:
    """Ever longer pauses, each a random part of its ceiling, which doubles up to `most` seconds.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog (full jitter).
    """

    def __init__(self, most: float = MAX_CEILING_SECONDS) -> None:
        self._most = most
        self._ceiling = 0.0

    def next_pause(self) -> float:
        """Return the seconds to wait after one more failure."""
        self._ceiling = min(self._most, max(MIN_CEILING_SECONDS, self._ceiling * 2))
        return jittered(self._ceiling)

    def reset(self) -> None:
        """Begin anew: it succeeded."""
        self._ceiling = 0.0


def jittered(seconds: float) -> float:
    """Return a random part of `seconds`, so that many who wait do not strike together."""
    return random.uniform(0, seconds)  # noqa: S311 # nosec B311 # spread, not secrecy
