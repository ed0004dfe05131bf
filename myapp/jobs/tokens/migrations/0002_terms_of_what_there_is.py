from django.db import migrations

# Tokens of before have no name, and may what their user may. Old processes go on making some
# without terms; those get theirs when they come.
FILL = """
INSERT INTO tokens_terms (id, token_id, name, scope)
SELECT gen_random_uuid(), digest, '', 'full' FROM knox_authtoken
ON CONFLICT DO NOTHING
"""


class Migration(migrations.Migration):
    dependencies = [("tokens", "0001_terms")]

    operations = [migrations.RunSQL(FILL, migrations.RunSQL.noop)]
