"""Ids that sort by their time."""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """Return a new UUIDv7: its first 48 bits are the time in milliseconds (RFC 9562 §5.7).

    Python 3.13 and Postgres 15 have none of their own.
    """
    return UUID(int=_uuid7_number())


def uuid7s(count: int) -> list[UUID]:
    """Return new UUIDv7 in ascending order, also those of one millisecond."""
    return [UUID(int=number) for number in sorted(_uuid7_number() for _ in range(count))]


def _uuid7_number() -> int:
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10))
    value = (milliseconds << 80) | random_bits
    value = value & ~(0xF << 76) | (0x7 << 76)  # version 7
    return value & ~(0x3 << 62) | (0x2 << 62)  # variant of RFC 9562
