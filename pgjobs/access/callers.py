"""The name by which a user is counted."""

import hashlib

# As our tables have room for.
NAME_LENGTH = 64
_DIGEST = "sha256:"


def caller_name(key: object) -> str:
    """Return a user's key as text of 64 characters at most: of a longer one a digest."""
    text = str(key)
    if len(text) <= NAME_LENGTH and not text.startswith(_DIGEST):
        return text
    return f"{_DIGEST}{hashlib.sha256(text.encode()).hexdigest()}"[:NAME_LENGTH]
