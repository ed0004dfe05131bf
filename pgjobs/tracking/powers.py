"""What a user may, whatever the project's user model knows of staff and permissions.

A model of AbstractBaseUser alone has neither: its users are no staff, and hold no permission.
"""

from typing import Any


def holds(user: Any, permission: str) -> bool:
    """Tell whether a user has a permission such as "users.add_user"."""
    has_perm = getattr(user, "has_perm", None)
    return has_perm is not None and bool(has_perm(permission))


def is_staff(user: Any) -> bool:
    return bool(getattr(user, "is_staff", False))


def is_superuser(user: Any) -> bool:
    return bool(getattr(user, "is_superuser", False))
