"""Whether the owner of a Task still may do what it does: asked when a run of its job begins."""

from typing import Any

from django.contrib.auth import get_user_model

from pgjobs.tracking.powers import holds


def still_may(owner_id: Any, permission: str) -> bool:
    """Tell whether this user exists, is active, and holds `permission` ("" for none).

    Read anew each time, so that what was taken away since the job was deferred counts.
    """
    users = get_user_model()._base_manager  # noqa: SLF001 # a manager of the project may hide some
    owner = users.filter(pk=owner_id).first()
    if owner is None or not owner.is_active:
        return False
    return not permission or holds(owner, permission)
