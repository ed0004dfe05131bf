"""Users as JSON, in and out."""

from typing import ClassVar

from django.contrib.auth.validators import UnicodeUsernameValidator
from rest_framework import serializers

from myapp.jobs.rest.serializers import StrictCharField, StrictEmailField, StrictSerializer
from myapp.users.models import User


class UserCreateInput(StrictSerializer):
    """The body of POST /api/users/."""

    username = StrictCharField(max_length=150, validators=[UnicodeUsernameValidator()])
    email = StrictEmailField(max_length=254)
    first_name = StrictCharField(max_length=150, required=False, allow_blank=True)
    last_name = StrictCharField(max_length=150, required=False, allow_blank=True)


class UserOutput(serializers.ModelSerializer[User]):
    """The seven fields that a client sees."""

    class Meta:
        model = User
        fields: ClassVar = [
            "id",
            "username",
            "email",
            "first_name",
            "last_name",
            "is_active",
            "date_joined",
        ]
