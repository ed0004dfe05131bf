"""User, the account and the example domain's one record."""

import uuid
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """Django's user with a UUID as key, a unique e-mail, and the flag of the activation mail."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField("email address", unique=True)
    is_activation_email_sent = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(AbstractUser.Meta):
        # The order of the list of users, page by page.
        indexes: ClassVar = [models.Index(fields=["created_at", "id"], name="users_user_list")]

    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]
