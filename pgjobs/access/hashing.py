"""Passwords are hashed a few at a time, and hold no connection meanwhile.

A hash takes a tenth of a second of a core on purpose. A hundred people, or one program, who sign in
at once would else take every core and every connection of the pool from everybody.
"""

import os
import threading

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connections

# Longer than any password manager makes them; a hash of a megabyte costs us, not who sends it.
MAX_PASSWORD_LENGTH = 256
# Half of the cores: the others serve.
PLACES = max(1, (os.cpu_count() or 1) // 2)

_places = threading.BoundedSemaphore(PLACES)


class BoundedPBKDF2PasswordHasher(PBKDF2PasswordHasher):
    """Django's own, whose hashes it makes and knows, one of PLACES at a time."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        give_connections_back()
        with _places:
            return super().encode(password, salt, iterations)


def give_connections_back() -> None:
    """Give back what this thread has of the pool; in a transaction it has to be kept."""
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
            connection.close()
