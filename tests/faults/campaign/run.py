"""One row in a process of its own: `python -m tests.faults.campaign.run E1 OPTIONS`.

OPTIONS is JSON. The last line it prints is the row, as JSON.
"""

import json
import os
import sys
import time

from tests.faults.campaign.world import Options, set_up_django, world


def main(name: str, given: str) -> None:
    """Run the experiment, print what was found."""
    set_up_django()
    from tests.faults.campaign.plan import BY_NAME  # Django is set up now

    options = Options(json.loads(given))
    with world(options) as made:
        settings = made.server.settings()
        began = time.monotonic()
        found = BY_NAME[name].run(made)
        seconds = round(time.monotonic() - began, 1)
    row = {"options": options, "server": settings, "took_s": seconds, **found}
    print(json.dumps(row), flush=True)
    os._exit(0)  # nothing of it may linger


if __name__ == "__main__":
    main(*sys.argv[1:])
