from typing import Any

from django.db import migrations

from pgjobs.database.migrating import PostgresSQL
from pgjobs.defer.ids import uuid7s

# Tokens of before have no name, and may what their user may. Their ids are UUIDv7 as well (RFC 9562
# §5.7), of when they were made: the list goes by them.
FILL = """
INSERT INTO pgjobs_api_terms (id, token_id, name, scope)
SELECT
    overlay(
        overlay(
            replace(gen_random_uuid()::text, '-', '')
            placing lpad(to_hex(floor(extract(epoch FROM created) * 1000)::bigint), 12, '0')
            FROM 1 FOR 12
        )
        placing '7' FROM 13 FOR 1
    )::uuid,
    digest, '', 'full'
FROM knox_authtoken
ON CONFLICT DO NOTHING
"""

OF_TERMS = {"model_name": "terms"}


def fill_elsewhere(apps: Any, schema_editor: Any) -> None:
    """Do the same where tokens are kept by another server than Postgres."""
    if schema_editor.connection.vendor == "postgresql":
        return
    alias = schema_editor.connection.alias
    terms = apps.get_model("pgjobs_api", "Terms").objects.using(alias)
    tokens = apps.get_model("knox", "AuthToken").objects.using(alias).filter(terms=None)
    digests = list(tokens.order_by("created").values_list("pk", flat=True))
    of_each = zip(uuid7s(len(digests)), digests, strict=True)
    terms.bulk_create(terms.model(id=one, token_id=digest, name="") for one, digest in of_each)


class Migration(migrations.Migration):
    dependencies = [("pgjobs_api", "0003_create_terms")]

    operations = [
        PostgresSQL(FILL, migrations.RunSQL.noop, hints=OF_TERMS),
        migrations.RunPython(fill_elsewhere, migrations.RunPython.noop, hints=OF_TERMS),
    ]
