from django.db import migrations

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


class Migration(migrations.Migration):
    dependencies = [("pgjobs_api", "0003_create_terms")]

    operations = [migrations.RunSQL(FILL, migrations.RunSQL.noop)]
