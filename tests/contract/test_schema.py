"""The schema: complete, reversible, wide enough."""

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, models
from knox.models import get_token_model

from pgjobs.defer import deferral
from pgjobs.tracking.models import Task


@pytest.mark.django_db
def test_no_change_of_a_model_lacks_its_migration() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_migrations_lead_back_to_zero_and_up_again(migrating: None) -> None:
    try:
        for label in ("pgjobs_api", "pgjobs"):
            call_command("migrate", label, "zero", verbosity=0)
        tables = connection.introspection.table_names()
        assert not [name for name in tables if name.startswith("pgjobs_")]
        assert "procrastinate_jobs" in tables
    finally:
        call_command("migrate", verbosity=0)
    assert "pgjobs_task" in connection.introspection.table_names()


def test_every_key_of_ours_holds_64_bits() -> None:
    keys = [
        field
        for config in apps.get_app_configs()
        if config.name.startswith(("pgjobs", "myapp."))
        for model in config.get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.Field) and (field.primary_key or field.is_relation)
        # Models of users and of tokens that are not ours decide on their own keys.
        if not field.many_to_many
        and field.related_model not in (get_user_model(), get_token_model())
    ]

    kinds = {str(field): getattr(field, "target_field", field) for field in keys}
    narrow = {
        name
        for name, field in kinds.items()
        if not isinstance(field, models.BigAutoField | models.BigIntegerField | models.UUIDField)
    }
    assert len(keys) >= 4
    assert narrow == set()


def test_the_one_statement_of_defer_fills_every_column_that_needs_it() -> None:
    columns = deferral._DEFER_SQL.split("INSERT INTO pgjobs_task (")[1].split(")")[0]
    named = {column.strip() for column in columns.split(",")}
    required = {
        field.column
        for field in Task._meta.local_concrete_fields
        if not field.null and not field.has_db_default()
    }

    assert required - named == set()
