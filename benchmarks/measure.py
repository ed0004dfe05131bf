"""One measurement in a process of its own: `python -m benchmarks.measure SYSTEM MEASURE OPTIONS`.

Runs in the virtual environment that holds the system. The last line it prints is the row, as JSON.
SYSTEM is where its class is, as `package.module:Class`; the measure "prepare" builds its database.
"""

import json
import os
import sys
from importlib import import_module

from benchmarks.environment import DATABASE_SUFFIX
from benchmarks.measures import Options, calmest
from benchmarks.system import System


def main(where: str, measure: str, options: str = "{}") -> None:
    """Measure, print the row, end without waiting for threads of libraries."""
    system = system_of(where)
    if measure == "prepare":
        system.prepare()
        print("{}", flush=True)
        return
    given = json.loads(options)
    tries = given.pop("tries", 1)
    system.connect()
    print(json.dumps(calmest(measure, system, Options(**given), tries=tries)), flush=True)
    os._exit(0)  # some libraries' threads take seconds to end


def system_of(where: str) -> System:
    """Return a new object of the class named."""
    module, _, name = where.partition(":")
    system: System = getattr(import_module(module), name)()
    if system.database:
        system.database += os.environ.get(DATABASE_SUFFIX, "")
    return system


if __name__ == "__main__":
    main(*sys.argv[1:])
