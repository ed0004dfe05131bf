"""User, the account and the example domain's one record."""

import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.auth.password_validation import password_changed
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models.functions import Lower
from django.db.models.signals import post_save, pre_save
from django.utils import timezone
from knox.models import get_token_model

from myapp.users.names import (
    MAX_ADDRESS_LENGTH,
    check_mailable,
    normal_address,
    normal_username,
)
from pgjobs.database.prepared import prepared_cursor
from pgjobs.database.sql import read_sql

_WRITE_HASH_SQL = read_sql("myapp.users", "write_hash")
NAME_TAKEN = "A user has this name, perhaps in other letters."
ADDRESS_TAKEN = "A user has this address, perhaps in other letters."


class AccountManager(UserManager["User"]):
    """Users, whose names and addresses are the same in small and in large letters."""

    use_in_migrations = False

    def named(self, username: str) -> models.QuerySet["User"]:
        name = Lower(models.Value(normal_username(username)))
        return self.alias(small_name=Lower("username")).filter(small_name=name)

    def of_address(self, email: str) -> models.QuerySet["User"]:
        address = Lower(models.Value(normal_address(email)))
        return self.alias(small_address=Lower("email")).filter(small_address=address)

    def get_by_natural_key(self, username: str | None) -> "User":
        """Return whoever signs in by this name."""
        return self.named(username or "").get()


class User(AbstractUser):
    """Django's user with a UUID as key, a unique e-mail, and what is known of the activation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(
        "email address", unique=True, max_length=MAX_ADDRESS_LENGTH, validators=[check_mailable]
    )
    is_activation_email_sent = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # When they were first active. Who is inactive in spite of it was shut out by somebody, and no
    # link or mail lets them in again. `update()` and `bulk_create()` have to set it themselves.
    activated_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Of those who opened their account themselves: it goes again if they never activate it.
    signed_up_at = models.DateTimeField(null=True, blank=True, editable=False)

    # Sessions that began before are none any more; see _get_session_auth_hash.
    sessions_ended_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[AccountManager] = AccountManager()

    class Meta(AbstractUser.Meta):
        # The order of the list of users, page by page.
        indexes: ClassVar = [models.Index(fields=["created_at", "id"], name="users_user_list")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                Lower("username"), name="users_user_one_name", violation_error_message=NAME_TAKEN
            ),
            models.UniqueConstraint(
                Lower("email"), name="users_user_one_address", violation_error_message=ADDRESS_TAKEN
            ),
        ]

    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]

    def clean(self) -> None:
        """Normalise name and address, which may make them too long for their columns."""
        super().clean()
        self.username, self.email = normal_username(self.username), normal_address(self.email)
        for name in ("username", "email"):
            field: Any = self._meta.get_field(name)
            try:
                field.run_validators(getattr(self, name))
            except ValidationError as error:
                raise ValidationError({name: error.error_list}) from None

    def save(self, **options: Any) -> None:
        """Save, and note the instant if they are active for the first time.

        A row that is gone meanwhile is not made again. Receivers hear of a password by itself.

        Raises:
            User.NotUpdated: the row is gone.
        """
        if self.is_active and self.activated_at is None:
            self.activated_at = timezone.now()
            if options.get("update_fields"):
                options["update_fields"] = {*options["update_fields"], "activated_at"}
        is_new = self._state.adding and not options.get("update_fields")
        if is_new or options.get("force_insert"):
            self._insert(**options)
        else:
            self._update(**options)

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        self._is_disabled = True  # for save()

    def revoke_tokens(self) -> None:
        """Delete the user's API tokens, one by one: each is recorded."""
        for token in get_token_model().objects.filter(user_id=self.pk):
            token.delete()

    def _get_session_auth_hash(self, secret: Any = None) -> str:
        """Return what a session must hold, which Django compares with each request."""
        ended = self.sessions_ended_at
        held: str = super()._get_session_auth_hash(secret=secret)  # type: ignore[misc] # not in stubs
        return f"{held}{ended.timestamp()}" if ended else held

    # A hash goes to the server apart from every other value and from the text of its statement:
    # Postgres writes a statement that fails to its log as it was sent, and these fail where a name
    # or an address is taken, or a lock is not to be had in time.

    def write_hash(self, hashed: str, *, using: str | None = None) -> None:
        """Write the hash of a password, and nothing else.

        Raises:
            User.NotUpdated: the row is gone.
        """
        with prepared_cursor(using or self._state.db) as cursor:
            cursor.execute(_WRITE_HASH_SQL, {"password": hashed, "id": self.pk})
            if not cursor.rowcount:
                raise self.NotUpdated(f"There is no user {self.pk} any more.")

    def _insert(self, **options: Any) -> None:
        hashed, self.password = self.password, ""
        try:
            with transaction.atomic(using=options.get("using")):
                super().save(**options)
                self.write_hash(hashed, using=options.get("using"))
        finally:
            self.password = hashed

    def _update(
        self,
        *,
        update_fields: Iterable[str] | None = None,
        using: str | None = None,
        **options: Any,
    ) -> None:
        is_disabled = self.__dict__.get("_is_disabled", False)
        has_new_password = is_disabled or getattr(self, "_password", None) is not None
        columns = {field.name for field in self._meta.concrete_fields if not field.primary_key}
        fields = columns - self.get_deferred_fields() if update_fields is None else {*update_fields}
        with transaction.atomic(using=using):
            if "password" in fields:
                self._update_hash(using or self._state.db)
            if others := fields - {"password"}:
                super().save(update_fields=others, using=using, **options)
            if has_new_password:  # the sessions end by themselves
                self.revoke_tokens()
        self._is_disabled = False
        if (password := getattr(self, "_password", None)) is not None:
            password_changed(password, self)
            self._password = None

    def _update_hash(self, using: str | None) -> None:
        """Write the hash, with the signals of `save(update_fields=["password"])`."""
        sent: dict[str, Any] = {"sender": type(self), "instance": self, "raw": False}
        sent |= {"using": using, "update_fields": frozenset({"password"})}
        pre_save.send(**sent)
        self.write_hash(self.password, using=using)
        post_save.send(created=False, **sent)
