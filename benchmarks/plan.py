"""What is measured, and what it should come to: the rows, the ratios, the goals."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.ours import many_tasks

OURS = "benchmarks.ours.system:Ours"
PEERS = "benchmarks.peers.systems"
PROCRASTINATE = f"{PEERS}.procrastinate_raw:Procrastinate"
PROCRASTINATE_DJANGO = f"{PEERS}.procrastinate_django:ProcrastinateDjango"
CELERY_REDIS_RESULTS = f"{PEERS}.celery_peers:CeleryRedisResults"
CELERY_RABBIT = f"{PEERS}.celery_peers:CeleryRabbit"
CELERY_WEB = f"{PEERS}.celery_web:CeleryWeb"
DRAMATIQ = f"{PEERS}.dramatiq_peer:Dramatiq"
PGQUEUER = f"{PEERS}.pgqueuer_peer:PgQueuer"
GRAPHILE = f"{PEERS}.node_peers:Graphile"

BROKERS = {
    CELERY_REDIS_RESULTS: "redis",
    CELERY_WEB: "redis",
    DRAMATIQ: "redis",
    CELERY_RABBIT: "rabbit",
}


type Kind = Literal["sync", "async", "-"]


@dataclass(frozen=True)
class Row:
    """One measurement. `title` says what ran, `kind` whether its task is sync or async."""

    name: str
    group: str
    title: str
    kind: Kind
    system: str
    measure: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def broker(self) -> str:
        """The server it needs beside Postgres: "redis", "rabbit" or ""."""
        return BROKERS.get(self.system, "")

    @property
    def is_ours(self) -> bool:
        return self.system == OURS

    def scaled(self, scale: float) -> "Row":
        """Return the row with this fraction of its jobs."""
        return replace(self, options={**self.options, "n": int(self.options["n"] * scale)})


def drain(
    name: str,
    title: str,
    kind: Kind,
    system: str,
    config: str,
    n: int,
    **more: Any,
) -> Row:
    """Return the row of a no-op drain, unless `more` says otherwise."""
    group = more.pop("group", "drain")
    return Row(name, group, title, kind, system, "drain", {"config": config, "n": n, **more})


def insert(name: str, title: str, system: str, config: str, n: int) -> Row:
    """Return the row of a drain of sync tasks that insert one row by Django's ORM."""
    return drain(name, title, "sync", system, config, n, task="insert", group="insert")


def backlog(name: str, title: str) -> Row:
    """Return the row of a drain beside jobs that wait; "" is the one without."""
    suffix = f"_{name}" if name else ""
    return drain(
        f"ours-backlog-{name or 'empty'}",
        title,
        "async",
        OURS,
        "1",
        30_000,
        backlog=suffix,
        group="backlog",
    )


def pickup(name: str, title: str, kind: Kind, system: str, **options: Any) -> Row:
    """Return the row of single jobs for an idle worker."""
    return Row(name, "pickup", title, kind, system, "pickup", {"n": 3_000, **options})


# Rows that are compared stand side by side, so that a noisy moment falls on both.
# fmt: off
ROWS = [
    drain("ours-1p", "ours, 1 process", "async", OURS, "1", 20_000),
    drain("procrastinate-1p", "Procrastinate, 1 process", "async", PROCRASTINATE, "1", 3_000),
    drain(
        "procrastinate-lean-1p", "Procrastinate, lean connector, 1 process", "async",
        PROCRASTINATE, "1-lean", 4_000,
    ),
    drain("ours-2p", "ours, 2 processes", "async", OURS, "2", 20_000),
    drain("procrastinate-2p", "Procrastinate, 2 processes", "async", PROCRASTINATE, "2", 4_000),
    drain(
        "procrastinate-lean-2p", "Procrastinate, lean connector, 2 processes", "async",
        PROCRASTINATE, "2-lean", 5_000,
    ),
    drain("ours-sync-1p", "ours, 1 process", "sync", OURS, "1", 20_000, task="sync_noop"),
    drain("ours-sync-2p", "ours, 2 processes", "sync", OURS, "2", 20_000, task="sync_noop"),
    drain("bare-sql-1p", "bare SQL loop, 1 process", "-", OURS, "bare-sql-1", 20_000),
    drain("bare-sql-2p", "bare SQL loop, 2 processes", "-", OURS, "bare-sql-2", 20_000),
    drain(
        "celery-redis-results-2p", "Celery, Redis, django-celery-results, 2 processes", "sync",
        CELERY_REDIS_RESULTS, "prefork2", 2_000,
    ),
    drain(
        "celery-rabbit-1p", "Celery, RabbitMQ, no results, 1 process, 20 threads", "sync",
        CELERY_RABBIT, "threads20", 5_000,
    ),
    drain("dramatiq-2p", "dramatiq, Redis, no results, 2 processes", "sync", DRAMATIQ, "2", 10_000),
    drain("pgqueuer-1p", "PgQueuer, batches of 100, 1 process", "async", PGQUEUER, "1", 20_000),
    drain("pgqueuer-2p", "PgQueuer, batches of 100, 2 processes", "async", PGQUEUER, "2", 20_000),
    drain("graphile-1p", "Graphile Worker, batches, 1 process", "async", GRAPHILE, "1", 30_000),
    drain("graphile-2p", "Graphile Worker, batches, 2 processes", "async", GRAPHILE, "2", 30_000),
    insert("ours-insert-1p", "ours, atomic, 1 process", OURS, "1", 10_000),
    insert(
        "procrastinate-django-insert-1p", "Procrastinate in Django, 1 process",
        PROCRASTINATE_DJANGO, "1", 2_000,
    ),
    insert("ours-insert-2p", "ours, atomic, 2 processes", OURS, "2", 10_000),
    insert(
        "procrastinate-django-insert-2p", "Procrastinate in Django, 2 processes",
        PROCRASTINATE_DJANGO, "2", 3_000,
    ),
    insert(
        "celery-redis-results-insert-2p", "Celery, Redis, django-celery-results, 2 processes",
        CELERY_REDIS_RESULTS, "prefork2", 2_000,
    ),
    pickup("ours-pickup", "ours", "async", OURS, config="1"),
    pickup("ours-pickup-sync", "ours", "sync", OURS, config="1", task="sync_noop"),
    pickup("celery-rabbit-pickup", "Celery, RabbitMQ, prefork", "sync", CELERY_RABBIT, config="prefork2"),
    pickup("procrastinate-pickup", "Procrastinate", "async", PROCRASTINATE, config="1"),
    backlog("", "ours, nothing else waits"),
    backlog("queued", "ours, 500,000 others of lower priority"),
    backlog("scheduled", "ours, 100,000 due tomorrow"),
    backlog("one_lock", "ours, 20,000 behind one lock whose holder runs"),
    backlog("locks", "ours, 5,000 others with a lock each"),
    Row("ours-post", "post", "ours", "-", OURS, "post", {"n": 3_000}),
    Row("celery-post", "post", "the same view with .delay(), Redis", "-", CELERY_WEB, "post", {"n": 3_000}),
    Row("ours-bulk", "bulk", "ours, defer_many by thousands", "-", OURS, "bulk", {"n": 50_000}),
    Row(
        "procrastinate-bulk", "bulk", "Procrastinate, batch_defer by thousands, no Task", "-",
        PROCRASTINATE, "bulk", {"n": 50_000},
    ),
    Row("ours-find", "find", "ours, a page of 1,000,000 tasks", "-", OURS, "find", {"n": 200}),
    Row("ours-idle", "idle", "ours, 1 process", "async", OURS, "idle", {"config": "1", "n": 2_000, "seconds": 30}),
]

QUICK = [
    drain("ours-1p", "ours, 1 process", "async", OURS, "1", 6_000),
    drain("procrastinate-1p", "Procrastinate, 1 process", "async", PROCRASTINATE, "1", 1_200),
    pickup("ours-pickup", "ours", "async", OURS, config="1", n=300),
    Row("ours-bulk", "bulk", "ours, defer_many by thousands", "-", OURS, "bulk", {"n": 10_000}),
]
QUICK_ROUNDS = 2

# What `python -m benchmarks.pairs` compares: two to four seconds each.
PAIRS = [
    drain("noop", "no-op jobs", "async", OURS, "1", 50_000, group="pairs", to_last_end=True),
    drain("plain", "no-op jobs", "sync", OURS, "1", 20_000, group="pairs", task="sync_noop", to_last_end=True),
    drain("read", "one ORM read", "sync", OURS, "1", 8_000, group="pairs", task="read", to_last_end=True),
    drain("insert", "one ORM insert, atomic", "sync", OURS, "1", 5_000, group="pairs", task="insert", to_last_end=True),
    pickup("pickup", "single no-op jobs", "async", OURS, config="1", n=300, to_last_end=True),
]
# fmt: on


@dataclass(frozen=True)
class Goal:
    """`column` of `row` over that of `by` (or alone), and what it should be; None: shown only.

    With `at_most` smaller is better, and a ratio is turned round, so that more is always better.
    """

    name: str
    row: str
    by: str = ""
    column: str = "rate"
    goal: float | None = None
    unit: str = "x"
    at_most: bool = False


# fmt: off
GOALS = [
    Goal("drain_noop_vs_procrastinate", "ours-1p", "procrastinate-1p", goal=10),
    Goal("drain_noop_vs_procrastinate_2p", "ours-2p", "procrastinate-2p", goal=10),
    Goal("drain_noop_vs_procrastinate_lean", "ours-1p", "procrastinate-lean-1p", goal=10),
    Goal("drain_noop_vs_procrastinate_lean_2p", "ours-2p", "procrastinate-lean-2p", goal=10),
    Goal("drain_noop_vs_celery_redis_results", "ours-2p", "celery-redis-results-2p", goal=25),
    Goal("drain_sync_noop_vs_celery_redis_results", "ours-sync-2p", "celery-redis-results-2p"),
    Goal("drain_noop_vs_celery_rabbit", "ours-1p", "celery-rabbit-1p", goal=1),
    Goal("drain_sync_noop_vs_celery_rabbit", "ours-sync-1p", "celery-rabbit-1p"),
    Goal("drain_noop_vs_dramatiq", "ours-2p", "dramatiq-2p", goal=1),
    Goal("drain_sync_noop_vs_dramatiq", "ours-sync-2p", "dramatiq-2p"),
    Goal("drain_noop_vs_bare_sql", "ours-1p", "bare-sql-1p", goal=0.6),
    Goal("drain_noop_vs_bare_sql_2p", "ours-2p", "bare-sql-2p", goal=0.6),
    Goal("drain_noop_vs_pgqueuer", "ours-1p", "pgqueuer-1p"),
    Goal("drain_noop_vs_graphile", "ours-1p", "graphile-1p"),
    Goal("insert_vs_celery_redis_results", "ours-insert-2p", "celery-redis-results-insert-2p", goal=4),
    Goal("insert_vs_procrastinate_django", "ours-insert-1p", "procrastinate-django-insert-1p", goal=3),
    Goal("insert_vs_procrastinate_django_2p", "ours-insert-2p", "procrastinate-django-insert-2p", goal=3),
    Goal("pickup_commit_p50", "ours-pickup", column="commit_p50", goal=3, unit=" ms", at_most=True),
    Goal("pickup_commit_p99", "ours-pickup", column="commit_p99", goal=30, unit=" ms", at_most=True),
    Goal("pickup_call_p50_vs_celery_rabbit", "ours-pickup", "celery-rabbit-pickup", "call_p50", 1, at_most=True),
    Goal("pickup_sync_commit_p50", "ours-pickup-sync", column="commit_p50", goal=3, unit=" ms", at_most=True),
    Goal("pickup_sync_commit_p99", "ours-pickup-sync", column="commit_p99", goal=30, unit=" ms", at_most=True),
    Goal("pickup_sync_call_p50_vs_celery_rabbit", "ours-pickup-sync", "celery-rabbit-pickup", "call_p50", 1, at_most=True),
    *(
        Goal(f"backlog_{name}_vs_empty", f"ours-backlog-{name}", "ours-backlog-empty", goal=0.9)
        for name in ("queued", "scheduled", "one_lock", "locks")
    ),
    Goal("post_users_vs_celery", "ours-post", "celery-post", goal=0.9),
    Goal("bulk_defer", "ours-bulk", goal=10_000, unit=" jobs/s"),
    *(
        Goal(f"find_{name}_p95", "ours-find", column=name, goal=50, unit=" ms", at_most=True)
        for name in many_tasks.queries()
    ),
    Goal("idle_statements", "ours-idle", column="statements_per_s", goal=1.5, unit="/s", at_most=True),
    Goal("memory_rss", "ours-idle", column="rss", goal=80, unit=" MB", at_most=True),
    Goal("memory_pss", "ours-idle", column="pss", goal=80, unit=" MB", at_most=True),
]
# fmt: on
