"""The experiments: what each does, with which parameters, and which figures it must reach.

Some are declared beside their code.
"""

from tests.faults.campaign import (
    away,
    clocks,
    crowds,
    failover,
    harm,
    horizon,
    hosts,
    ids,
    killing,
    lost_rows,
    network,
    notifications,
    releases,
    stopping,
    turns,
    zoo_visited,
)
from tests.faults.campaign.experiment import ALIVE, TAKEN, Experiment, Figure, kept

_EXPERIMENTS = (
    Experiment(
        "E1",
        "kill -9 of one of 4 workers every 3 to 5 s",
        killing.kill_workers,
        (
            *kept("kills"),
            TAKEN,
            Figure("handover_s", "max", 30, "from the kill until the job ran again, worst, s"),
            Figure("handover_s", "median", 5, "the same, median, s"),
            ALIVE,
        ),
        tuple(
            {
                "seed": seed,
                "lease": "product",
                "jobs": 10_000,
                "rate": 100,
                "every": (3, 5),
                "shortest": 0.02,
                "longest": 0.2,
                "patience": 120,
            }
            for seed in range(1, 6)
        ),
        {
            "seed": 1,
            "lease": "short",
            "jobs": 160,
            "rate": 40,
            "every": (0.6, 1.0),
            "shortest": 0.02,
            "longest": 0.3,
            "patience": 20,
        },
        {
            "no_rescue": ({"patience": 3}, {"lost"}),
            "ack_first": ({}, {"lost"}),
            "not_atomic": ({}, {"doubled"}),
        },
    ),
    Experiment(
        "E3",
        "SIGSTOP of one of 4 workers past its lease, then SIGCONT",
        killing.freeze_workers,
        (
            *kept("freezes"),
            TAKEN,
            Figure("thaw_s", "max", 5, "from SIGCONT until it had registered anew, worst, s"),
            Figure("never_back", "sum", 0, "frozen workers that did not come back"),
            ALIVE,
        ),
        tuple(
            {
                "seed": seed,
                "lease": "product",
                "freezes": 5,
                "rate": 8,
                "longer": 3,
                "shortest": 0.5,
                "longest": 2.0,
                "patience": 120,
            }
            for seed in range(1, 5)
        ),
        {
            "seed": 1,
            "lease": "short",
            "freezes": 1,
            "rate": 8,
            "longer": 1,
            "shortest": 0.5,
            "longest": 1.0,
            "patience": 20,
        },
        {"no_fence": ({"freezes": 2}, {"doubled", "fenced"})},
    ),
    Experiment(
        "E6",
        "the database stopped as by a crash, under steady load",
        away.take_database_away,
        (
            *kept("outages"),
            Figure("back_s", "max", 10, "from its return until a job started, worst, s"),
            Figure("web_s", "max", 3, "answer of web meanwhile, worst, s"),
            Figure("web_not_503", "sum", 0, "answers of web meanwhile other than 503"),
            Figure("false_deaths", "sum", 0, "runs given to others as crashed; none did"),
            ALIVE,
        ),
        tuple(
            {
                "seed": seed,
                "lease": lease,
                "seconds": seconds,
                "outages": outages,
                "rate": 20,
                "between": 5,
                "shortest": 0.02,
                "longest": 0.2,
                "patience": 120,
            }
            for seed, (seconds, outages, lease) in enumerate(
                [(1, 5, "short"), (20, 5, "product"), (60, 5, "short"), (300, 1, "short")], start=1
            )
        ),
        {
            "seed": 1,
            "lease": "short",
            "seconds": 4,
            "outages": 1,
            "rate": 20,
            "between": 1,
            "shortest": 0.02,
            "longest": 0.2,
            "patience": 20,
        },
        {
            "gives_up": ({"patience": 1}, {"ended_unasked"}),
            "lax": ({"lax": True, "twin": ""}, {"lost"}),
            "hasty_reaper": ({"outages": 4}, {"false_deaths"}),  # each shows it every other time
        },
    ),
    Experiment(
        "E7",
        "sessions terminated amid a claim, a finish, a retry, a heartbeat",
        away.terminate_backends,
        (
            *kept("terminations"),
            Figure("stuck", "sum", 0, "jobs left PROCESSING", "terminations"),
            Figure("recorded_s", "max", 10, "until it was claimed, written, or beaten, worst, s"),
            ALIVE,
        ),
        tuple(
            {"seed": seed, "lease": "short", "rounds": 25, "patience": 30} for seed in range(1, 5)
        ),
        {"seed": 1, "lease": "short", "rounds": 1, "patience": 15},
        {"writes_once": ({"patience": 2}, {"lost", "stuck"})},
    ),
    Experiment(
        "E16",
        "jobs of 50 locks over 8 workers, 5 % fail once, 2 % are due later",
        turns.take_turns,
        (
            *kept("jobs"),
            TAKEN,
            Figure("overlaps", "sum", 0, "runs of one lock at the same time", "jobs"),
            Figure("deadlocks", "sum", 0, "deadlocks"),
            ALIVE,
        ),
        (
            {
                "seed": 1,
                "lease": "short",
                "jobs": 20_000,
                "locks": 50,
                "workers": 8,
                "longest": 0.005,
                "patience": 600,
            },
        ),
        {
            "seed": 1,
            "lease": "short",
            "jobs": 300,
            "locks": 6,
            "workers": 3,
            "longest": 0.01,
            "patience": 30,
        },
        {"unlocked": ({"unlocked": True, "twin": "", "jobs": 100}, {"overlaps"})},
    ),
    Experiment(
        "E17",
        "jobs that kill, crash or bloat their worker",
        harm.run_killers,
        (
            *kept("killers"),
            TAKEN,
            Figure("crashes", "max", 3, "crashes of one job until it is FAILED `crashed`, most"),
            Figure("not_parked", "sum", 0, "such jobs that ended otherwise"),
            Figure("others_parked", "sum", None, "other jobs that ran beside three crashes"),
            Figure("delay_s", "max", 30, "from defer to the end of another job, worst, s"),
        ),
        tuple(
            {"seed": seed, "lease": "short", "each": 2, "rate": 20, "patience": 120}
            for seed in range(1, 4)
        ),
        {"seed": 1, "lease": "short", "each": 1, "rate": 10, "patience": 40},
        {"endless_crashes": ({"patience": 4}, {"crashes", "not_parked"})},
    ),
    Experiment(
        "E18",
        "results and errors that are hard to store",
        harm.give_poisonous_answers,
        (
            *kept("poisons"),
            TAKEN,
            Figure("without_end", "sum", 0, "of them without an end", "poisons"),
            Figure("end_s", "max", 30, "from defer to the end of one, worst, s"),
            Figure("delay_s", "max", 30, "from defer to the end of another job, worst, s"),
            ALIVE,
        ),
        ({"seed": 1, "lease": "short", "patience": 60},),
        {"seed": 1, "lease": "short", "patience": 30},
        {"careless_results": ({"patience": 2}, {"without_end", "lost"})},
    ),
    Experiment(
        "E19",
        "a dependency that is down",
        crowds.fail_for_a_while,
        (
            Figure("retries_by_rate", "max", 3, "retries a second, peak, by jobs a second"),
            Figure("healthy_p99_s", "max", 2, "pick-up of other jobs meanwhile, p99, s"),
            ALIVE,
        ),
        ({"seed": 1, "lease": "short", "rate": 42, "seconds": 120, "patience": 60},),
        {"seed": 1, "lease": "short", "rate": 20, "seconds": 3, "patience": 20},
        {"hasty": ({"hasty": True, "twin": "", "patience": 2}, {"retries_by_rate"})},
    ),
    Experiment(
        "E20",
        "8 idle workers, single jobs, then a burst",
        crowds.wake_a_herd,
        (
            *kept("jobs"),
            TAKEN,
            Figure("claims_by_single_job", "max", 9, "claims for a single job"),
            Figure("claims_by_burst_job", "max", 9, "claims for a job of a burst"),
            Figure("idle_claims_by_worker", "max", 1, "claims a second of an idle worker"),
            Figure("idle_statements_by_worker", "max", 1, "statements a second of an idle worker"),
            ALIVE,
        ),
        (
            {
                "seed": 1,
                "lease": "product",
                "workers": 8,
                "idle": 60,
                "settle": 5,
                "jobs": 5000,
                "patience": 120,
            },
        ),
        {
            "seed": 1,
            "lease": "product",
            "workers": 2,
            "idle": 3,
            "settle": 1,
            "jobs": 200,
            "patience": 30,
        },
        {"hasty_poll": ({"poll": 0.1, "twin": ""}, {"idle_claims_by_worker"})},
    ),
)
EXPERIMENTS = tuple(
    sorted(
        (
            *_EXPERIMENTS,
            *stopping.EXPERIMENTS,
            *network.EXPERIMENTS,
            *notifications.EXPERIMENTS,
            *clocks.EXPERIMENTS,
            *releases.EXPERIMENTS,
            *ids.EXPERIMENTS,
            *failover.EXPERIMENTS,
            *horizon.EXPERIMENTS,
            *zoo_visited.EXPERIMENTS,
            *hosts.EXPERIMENTS,
            *lost_rows.EXPERIMENTS,
        ),
        key=lambda experiment: int(experiment.name.removeprefix("E")),
    )
)
BY_NAME = {experiment.name: experiment for experiment in EXPERIMENTS}
