"""Experiments in processes of their own: one row each, whatever becomes of the process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pgjobs.dev.process import spawn
from tests.faults.campaign.experiment import Experiment
from tests.faults.campaign.results import Row
from tests.faults.campaign.servers import ROOT
from tests.faults.campaign.world import HOME

MODULE = "tests.faults.campaign.run"
ROW_SECONDS = 3600.0


def conducted(experiment: Experiment, options: dict[str, Any], *, home: Path = HOME) -> Row:
    """Run the experiment with these options; return what it found, or an `error`.

    `home`: where its server and its logs are.
    """
    (home / "logs").mkdir(parents=True, exist_ok=True)
    paths = (str(ROOT), str(ROOT / "tests" / "support"))
    found: Row = {"experiment": experiment.name, "options": options}
    with (home / "logs" / "experiments.log").open("a") as log:
        process = spawn(
            [sys.executable, "-m", MODULE, experiment.name, json.dumps(options)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "FAULTS_HOME": str(home),
            },
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        with process:
            said, _ = process.communicate(timeout=ROW_SECONDS)
    if process.returncode:
        return {**found, "error": f"status {process.returncode}, see {log.name}"}
    return {**found, **json.loads(said.splitlines()[-1])}


def short_form(experiment: Experiment, *, twin: str = "", seed: int = 1) -> Row:
    """Run the form of seconds, of the engine as it is or of one of the experiment's twins."""
    options = {**experiment.short, "seed": seed}
    if twin:
        options |= {"twin": twin, **experiment.twins[twin][0]}
    return conducted(experiment, options)
