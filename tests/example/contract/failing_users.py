"""Ways in which statements that bring a password's hash fail; see failing_statements.py."""

from collections.abc import Callable
from typing import Any

from myapp.users.accounts import activate
from myapp.users.models import User

HASH = "pbkdf2_sha256$1$c4n4ry$c4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n="
TABLES = "users_user"


def acts() -> dict[str, Callable[[], Any]]:
    """Return them: what begins with "locked" is done while TABLES are."""
    ada, eve = (User(username=name, email=f"{name}@example.org") for name in ("ada", "eve"))
    for user in (ada, eve, _applicant()):
        user.save()

    def save(user: Any, *, only: list[str] | None = None, **changes: Any) -> None:
        for name, value in {"password": HASH, **changes}.items():
            setattr(user, name, value)
        user.save(update_fields=only)

    return {
        "taken by another, new": lambda: save(User(email="new@example.org"), username="ADA"),
        "taken by another, changed": lambda: save(eve, username="Ada"),
        "locked, new": lambda: save(User(username="new", email="new@example.org")),
        "locked, changed": lambda: save(eve, username="eve", first_name="Eve"),
        "locked, activated": lambda: activate(_applicant(), password="correct horse battery"),
        "locked, password": lambda: save(ada, only=["password"]),
    }


def _applicant() -> User:
    named: dict[str, Any] = {"username": "mia", "email": "mia@example.org"}
    return User.objects.get_or_create(**named, is_active=False)[0]
