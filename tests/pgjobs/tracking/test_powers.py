"""Not every user model knows staff and permissions: what it lacks, nobody has."""

from typing import Any

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser

from pgjobs.tracking.powers import holds, is_staff, is_superuser


class Plain(AbstractBaseUser):
    class Meta:
        abstract = True


PLAIN: Any = Plain


@pytest.mark.parametrize("user", [object.__new__(PLAIN), AnonymousUser()])
def test_who_cannot_hold_power_has_none(user: Any) -> None:
    assert not holds(user, "pgjobs.view_task")
    assert not is_staff(user)
    assert not is_superuser(user)


def test_a_superuser_has_every_power(admin: Any) -> None:
    assert holds(admin, "pgjobs.view_task")
    assert is_staff(admin)
    assert is_superuser(admin)
