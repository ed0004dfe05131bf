"""What EXPLAIN says of a statement."""

from collections.abc import Iterator
from typing import Any

TABLES = "procrastinate_jobs", "pgjobs_task", "pgjobs_attempt", "procrastinate_events"

type Node = dict[str, Any]


class Plan:
    """What EXPLAIN ANALYZE says of one execution."""

    def __init__(self, top: Node) -> None:
        self.nodes = list(_walk(top))
        # A write that nothing reads from runs last and is not in the sum at the top.
        counted = [top, *(node for node in self.nodes if node["Node Type"] == "ModifyTable")]
        self.buffers = max(
            node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in counted
        )
        self.rows = round(top["Actual Rows"] * top["Actual Loops"])

    @property
    def table_scans(self) -> list[str]:
        """Scans that read a table without an index."""
        return [
            node["Relation Name"]
            for node in self.nodes
            if node["Node Type"] in {"Seq Scan", "Bitmap Heap Scan"}
            and node["Relation Name"] in TABLES
        ]

    @property
    def sequential_scans(self) -> list[str]:
        """Tables that were read from end to end."""
        return [
            node["Relation Name"]
            for node in self.nodes
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in TABLES
        ]

    @property
    def sorted_rows(self) -> int:
        """The rows of the largest sort."""
        sorts = (node for node in self.nodes if "Sort" in node["Node Type"])
        return max((round(node["Actual Rows"]) for node in sorts), default=0)

    @property
    def removed_rows(self) -> int:
        """The rows of our tables that were read and did not fit."""
        return sum(
            round(node.get(removed, 0) * node["Actual Loops"])
            for node in self.nodes
            if node.get("Relation Name") in TABLES
            for removed in ("Rows Removed by Filter", "Rows Removed by Index Recheck")
        )

    def indexes_of(self, table: str) -> set[str]:
        """The indexes by which rows of `table` were found."""
        return {
            node["Index Name"]
            for node in self.nodes
            if node.get("Relation Name") == table and "Index Name" in node
        }

    def __repr__(self) -> str:
        kinds = (
            f"{node['Node Type']} {node.get('Relation Name', '')} {node.get('Index Name', '')}"
            f" rows={node['Actual Rows']} loops={node['Actual Loops']}"
            f" buffers={node['Shared Hit Blocks'] + node['Shared Read Blocks']}"
            for node in self.nodes
            if node["Actual Loops"]
        )
        return "\n".join([f"buffers={self.buffers} rows={self.rows}", *kinds])


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", []):
        yield from _walk(child)
