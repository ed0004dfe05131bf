"""Reads the statements that stand in files: `sql/` of each room, whole and static."""

from importlib.resources import files


def read_sql(room: str, name: str) -> str:
    """Return the statement in `sql/<name>.sql` of a room, which is a package: "pgjobs.tracking".

    Raises:
        FileNotFoundError: there is none.
    """
    return (files(room) / "sql" / f"{name}.sql").read_text(encoding="utf-8")
