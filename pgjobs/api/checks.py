"""System checks of the API: what of it depends on the project's settings."""

from collections.abc import Iterable
from typing import Any

from django.core.checks import (
    CheckMessage,
    Error,
    Warning,  # noqa: A004 # Django's word
    register,
)
from django.urls import NoReverseMatch, reverse

SCHEMA_CLASS = "pgjobs.api.openapi.schema.ApiSchema"


@register("jobs")
def check_description(**_options: Any) -> Iterable[CheckMessage]:
    """Return a warning if views cannot be described as the project's settings are."""
    if describes():
        return []
    return [
        Warning(
            "The API is not described at its schema/: REST_FRAMEWORK has another schema class.",
            hint=f'Set REST_FRAMEWORK["DEFAULT_SCHEMA_CLASS"] = "{SCHEMA_CLASS}".',
            id="jobs.W001",
        )
    ]


@register("jobs")
def check_routes(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error if no route leads to the API: what is accepted names the path of its task."""
    try:
        reverse("pgjobs:task-list")
    except NoReverseMatch as error:
        return [
            Error(
                f"No route leads to the API: {error}",
                hint=(
                    'Add path("api/", include("pgjobs.api.urls")) to the urlpatterns of'
                    " ROOT_URLCONF, in no other namespace and below no part that varies."
                ),
                id="jobs.E015",
            )
        ]
    return []


def describes() -> bool:
    """Tell whether views are described by drf-spectacular, which is chosen as they are loaded."""
    # Loaded here: the schema is for those who ask for it, and workers load this module too.
    from drf_spectacular.openapi import AutoSchema  # noqa: PLC0415
    from rest_framework.settings import api_settings  # noqa: PLC0415

    kind: Any = api_settings.DEFAULT_SCHEMA_CLASS
    return issubclass(kind, AutoSchema)
