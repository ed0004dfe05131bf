"""The zoo: task functions that disturb their worker (nuisances), or end it (killers).

Each is bounded in time and memory, and ends the children that it starts. The modules of nuisances
are kinds: what a function leaves behind, or attacks.
"""

import tasks  # noqa: F401 # sets Django up when this is a worker's app

# isort: split

from zoo import (
    children,
    interruptions,
    killers,
    parts,
    returns,
    sessions,
    surroundings,
    transactions,
    words,
)
from zoo.table import KILLERS, NUISANCES

__all__ = [
    "KILLERS", "NUISANCES", "children", "interruptions", "killers", "parts", "returns", "sessions",
    "surroundings", "transactions", "words",
]  # fmt: skip
