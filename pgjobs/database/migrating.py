"""Operations of migrations."""

from typing import Any

from django.db.migrations import RunSQL


class PostgresSQL(RunSQL):
    """SQL for tables that may be kept by another server as well, which needs none."""

    def database_forwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, *states)
