"""User, the account and the example domain's one record."""

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone


class User(AbstractUser):
    """Django's user with a UUID as key, a unique e-mail, and what is known of the activation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField("email address", unique=True)
    is_activation_email_sent = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # When they were first active. Who is inactive in spite of it was shut out by somebody, and no
    # link or mail lets them in again. `update()` and `bulk_create()` have to set it themselves.
    activated_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta(AbstractUser.Meta):
        # The order of the list of users, page by page.
        indexes: ClassVar = [models.Index(fields=["created_at", "id"], name="users_user_list")]

    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]

    def save(self, **options: Any) -> None:
        """Save, and note the instant if they are active for the first time."""
        if self.is_active and self.activated_at is None:
            self.activated_at = timezone.now()
            if options.get("update_fields"):
                options["update_fields"] = {*options["update_fields"], "activated_at"}
        super().save(**options)
