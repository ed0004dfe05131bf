"""The database only reads, and then it writes again, or another one does: E8."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from http_calls import call
from tcp_proxy import TcpProxy

from tests.faults.campaign.away import web
from tests.faults.campaign.experiment import ALIVE, Experiment, Figure, kept
from tests.faults.campaign.servers import Server
from tests.faults.campaign.world import HOME, World, lead_client_to

WORKERS = 2
READ_ONLY = {"default_transaction_read_only": "on"}
# Who has a commit acknowledged has it on both servers.
SYNCHRONOUS = {"synchronous_standby_names": "*"}
PROBE_SECONDS = 0.5
WEB = {"": "myproj.asgi:application", "sticky": "tests.faults.campaign.sticky_web:application"}

_SYNCHRONOUS_SQL = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
# What began to write before it was forbidden ends.
_WRITING_SQL = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND datname = current_database()
"""
_FIRST_END_SQL = """
    SELECT extract(epoch FROM min(finished_at))::float FROM pgjobs_task
    WHERE finished_at > to_timestamp(%s)
"""

_FORGET_PROBES_SQL = """
    WITH probe AS (DELETE FROM pgjobs_task WHERE task_name = 'subscribe' RETURNING job_id)
    DELETE FROM procrastinate_jobs USING probe WHERE id = probe.job_id
"""


def write_elsewhere(world: World) -> dict[str, Any]:
    """E8: the database only reads for a while; then it writes again, or its standby does.

    Workers, web and client come through a proxy, as by an address that moves. The connections that
    are there stay with the old primary, which goes on answering.
    """
    options = world.options
    with TcpProxy.before(world.server.url) as proxy, _standby(world) as standby:
        _come_through(world, proxy)
        world.start_workers(WORKERS)
        with web(world, url=proxy.url, application=WEB[options.get("web", "")]) as base:
            with (
                world.fed(lambda: world.a_job(shortest=0.02, longest=0.2), rate=options.rate),
                _Probes(base) as probes,
            ):
                time.sleep(options.before)
                forbidden = _forbid_writes(world, standby)
                time.sleep(options.seconds)
                allowed = _allow_writes(world, proxy, standby)
                back_s = _seconds_until_a_job_ends(world, allowed)
                green_s = probes.seconds_until_ready(world, allowed)
            _forget_probes(world)
            return {
                "seconds": options.seconds,
                "red_s": probes.seconds_until_red(forbidden, allowed),
                "back_s": back_s,
                "green_s": green_s,
                "web_calls": len(probes.posts(forbidden, allowed)),
                "web_not_503": sum(status != 503 for status in probes.posts(forbidden, allowed)),
                "ended_unasked": world.workers.ended(),
                **world.verdict(),
            }


@contextmanager
def _standby(world: World) -> Iterator[Server | None]:
    """Yield a standby that is synchronous, if one is asked for."""
    if not world.options.standby:
        yield None
        return
    with world.server.copy(HOME / "standby") as standby:
        world.server.relax(SYNCHRONOUS)
        world.await_true(lambda: world.value(_SYNCHRONOUS_SQL), "the standby is synchronous")
        yield standby


def _come_through(world: World, proxy: TcpProxy) -> None:
    """Let workers and this process find the database behind the proxy."""
    world.workers.extra |= {"DATABASE_URL": proxy.url, "FAULTS_LEDGERS": proxy.url}
    lead_client_to(proxy.url)


def _forbid_writes(world: World, standby: Server | None) -> float:
    """Demote the primary; return when."""
    world.server.relax({**READ_ONLY, **(SYNCHRONOUS if standby else {})})
    return time.time()


def _allow_writes(world: World, proxy: TcpProxy, standby: Server | None) -> float:
    """Take it back, or promote the standby and lead whoever connects to it; return when."""
    if standby is None:
        world.server.relax({})
        return time.time()
    world.await_true(lambda: not world.value(_WRITING_SQL), "the last write ends")
    with standby.connect() as connection:
        connection.execute("SELECT pg_promote()")
    proxy.lead_to(standby.url)
    world.server = standby
    return time.time()


def _seconds_until_a_job_ends(world: World, since: float) -> float:
    """Return it; if none does, for how long it was waited for."""
    return world.seconds_after(since, lambda: world.value(_FIRST_END_SQL, since))


def _forget_probes(world: World) -> None:
    """Delete the jobs of those who subscribed to probe: the workers of the harness know none."""
    with world.server.connect() as connection:
        connection.execute(_FORGET_PROBES_SQL)


class _Probes(threading.Thread):
    """Asks web beside the block whether it is ready, and for something that needs a write."""

    def __init__(self, base: str) -> None:
        super().__init__(daemon=True)
        self._base = base
        self._ended = threading.Event()
        # When it was asked, when it answered, and the status.
        self._ready: list[tuple[float, float, int]] = []
        self._posts: list[tuple[float, float, int]] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(PROBE_SECONDS):
            self._ready.append(self._asked("/readyz"))
            self._posts.append(self._asked("/api/subscriptions/", body=self._address()))

    def seconds_until_red(self, since: float, until: float) -> float:
        """Return it; if it stayed green, how long that was."""
        red = [at for _, at, status in self._ready if since < at < until and status != 200]
        return round(min(red, default=until) - since, 2)

    def seconds_until_ready(self, world: World, since: float) -> float:
        """Return it; if it stayed red, for how long it was waited for."""
        return world.seconds_after(since, lambda: self._first_ready(since))

    def posts(self, since: float, until: float) -> list[int]:
        """Return the statuses of those that fell into this time as a whole."""
        return [status for began, at, status in self._posts if since < began and at < until]

    def _address(self) -> dict[str, str]:
        return {"email": f"probe-{len(self._posts)}@example.com"}

    def _first_ready(self, since: float) -> float:
        return min(
            (at for began, at, status in self._ready if began > since and status == 200),
            default=0.0,
        )

    def _asked(self, path: str, **options: Any) -> tuple[float, float, int]:
        began = time.time()
        answer = call(self._base + path, **options)
        return began, time.time(), answer.status


EXPERIMENTS = (
    Experiment(
        "E8",
        "the database only reads; then it writes again, or its synchronous standby does",
        write_elsewhere,
        (
            *kept("accepted"),
            Figure("red_s", "max", 10, "until /readyz says so, worst, s"),
            Figure("web_not_503", "sum", 0, "answers of web to writes meanwhile other than 503"),
            Figure("back_s", "max", 10, "from then on until a job was done, worst, s"),
            Figure("green_s", "max", 10, "from then on until /readyz was 200, worst, s"),
            ALIVE,
        ),
        tuple(
            {
                "seed": seed,
                "lease": "product",
                "standby": standby,
                "seconds": 30,
                "before": 5,
                "rate": 20,
                "patience": 60,
            }
            for seed, standby in enumerate((False, True), start=1)
        ),
        {
            "seed": 1,
            "lease": "short",
            "standby": True,
            "seconds": 4,
            "before": 2,
            "rate": 20,
            "patience": 20,
            "web": "",
        },
        {
            "no_eras": ({"patience": 12}, {"back_s"}),
            "sticky_web": ({"web": "sticky", "twin": "", "patience": 12}, {"green_s"}),
        },
    ),
)
