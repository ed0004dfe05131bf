"""The rules by which jobs run: one table, held against Procrastinate's worker and against ours.

Each row sets up one scenario on either worker and says what must be seen. Where ours is another on
purpose, the row has two values and the reason; there are no other differences in what it covers.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from asgiref.sync import SyncToAsync
from django.db import connections
from procrastinate import BaseRetryStrategy, JobContext, RetryDecision, RetryStrategy
from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job
from semantics import (
    BACKENDS,
    PATIENCE,
    REFUSED,
    WHILE_NOTHING_HAPPENS,
    Backend,
    Bench,
    OursDeclared,
    Row,
    Run,
    Table,
    due_before,
    fail,
    fail_once,
    linger,
)

from pgjobs.contract.context import Discard, Snooze
from pgjobs.tracking.models import Task

HOUR = 3600.0
EMPTY_TABLES = (
    "DELETE FROM pgjobs_attempt; DELETE FROM pgjobs_task;"
    " DELETE FROM procrastinate_periodic_defers; DELETE FROM procrastinate_jobs;"
    " DELETE FROM procrastinate_workers; DELETE FROM pgjobs_workerprocess"
)

table = Table()


# Priority


@table.same(["high", "middle", "low"])
async def a_higher_priority_runs_first(bench: Bench) -> Any:
    await bench.defer("low", priority=1)
    await bench.defer("high", priority=50)
    await bench.defer("middle", priority=7)
    await bench.work()
    return bench.order


@table.same(["plus", "none", "minus", "more minus"])
async def a_negative_priority_runs_after_none(bench: Bench) -> Any:
    await bench.defer("more minus", priority=-9)
    await bench.defer("minus", priority=-1)
    await bench.defer("none")
    await bench.defer("plus", priority=1)
    await bench.work()
    return bench.order


@table.same(["first", "second", "third", "fourth"])
async def equal_priorities_run_in_the_order_of_their_ids(bench: Bench) -> Any:
    for label in ("first", "second", "third", "fourth"):
        await bench.defer(label, priority=3)
    await bench.work()
    return bench.order


@table.same(["b high", "a middle", "b low"])
async def priorities_count_across_queues(bench: Bench) -> Any:
    await bench.defer("b low", queue="b", priority=1)
    await bench.defer("a middle", queue="a", priority=2)
    await bench.defer("b high", queue="b", priority=3)
    await bench.work(queues=["a", "b"])
    return bench.order


@table.same(["free high", "locked", "free low"])
async def priorities_count_across_jobs_with_and_without_a_lock(bench: Bench) -> Any:
    await bench.defer("free low", priority=1)
    await bench.defer("locked", priority=2, lock="lock")
    await bench.defer("free high", priority=3)
    await bench.work()
    return bench.order


@table.same(["before", "urgent", "after"])
async def a_higher_priority_deferred_meanwhile_runs_next(bench: Bench) -> Any:
    async def defer_urgent(_run: Run) -> None:
        await bench.defer("urgent", priority=9)

    await bench.defer("before", defer_urgent, priority=1)
    await bench.defer("after")
    await bench.work()
    return bench.order


@table.differs(
    procrastinate="urgent",
    ours="lock 00",
    because="a claim looks at some locks and the next one goes on: thousands of them slow nobody",
)
async def priorities_count_across_any_number_of_locks(bench: Bench) -> Any:
    one_has_run = asyncio.Event()

    def note(_run: Run) -> None:
        one_has_run.set()

    for number in range(70):
        await bench.defer(f"lock {number:02}", note, lock=f"lock {number:02}")
    await bench.defer("urgent", note, lock="the last lock", priority=9)
    async with bench.working():
        await one_has_run.wait()
    return bench.order[0]


# Locks


@table.same((1, ["first", "second", "third"]))
async def jobs_of_one_lock_run_one_at_a_time(bench: Bench) -> Any:
    for label in ("first", "second", "third"):
        await bench.defer(label, linger, lock="lock")
    await bench.work(concurrency=5)
    return bench.notes.peak, bench.order


@table.same(["urgent", "first", "second", "last"])
async def jobs_of_one_lock_run_by_priority_then_id(bench: Bench) -> Any:
    await bench.defer("last", lock="lock", priority=-1)
    await bench.defer("first", lock="lock")
    await bench.defer("second", lock="lock")
    await bench.defer("urgent", lock="lock", priority=1)
    await bench.work(concurrency=5)
    return bench.order


@table.same((2, {"of a": "succeeded", "of b": "succeeded"}))
async def different_locks_run_side_by_side(bench: Bench) -> Any:
    both = asyncio.Barrier(2)

    async def meet(_run: Run) -> None:
        await both.wait()

    await bench.defer("of a", meet, lock="a")
    await bench.defer("of b", meet, lock="b")
    await bench.work(concurrency=2)
    return bench.notes.peak, await bench.statuses()


@table.differs(
    procrastinate=(["free"], {"head": "todo", "sibling": "todo", "free": "succeeded"}),
    ours=(["sibling", "free"], {"head": "todo", "sibling": "succeeded", "free": "succeeded"}),
    because="a caller who schedules a job for next year would block the lock until then",
)
async def a_head_that_is_scheduled_ahead_holds_up_nobody(bench: Bench) -> Any:
    await bench.defer("head", lock="lock", due_in=HOUR)
    await bench.defer("sibling", lock="lock")
    await bench.defer("free", priority=-1)
    await bench.work(concurrency=3)
    return bench.order, await bench.statuses()


@table.differs(
    procrastinate=(["later head"], {"first": "todo", "head": "todo", "later head": "succeeded"}),
    ours=(
        ["later head", "first"],
        {"first": "succeeded", "head": "todo", "later head": "succeeded"},
    ),
    because="it stands in the line of its lock from its due time on",
)
async def a_higher_priority_makes_no_job_the_head_before_it_is_due(
    bench: Bench,
) -> Any:
    await bench.defer("first", lock="lock")
    await bench.defer("head", lock="lock", priority=1, due_in=HOUR)
    await bench.defer("later head", lock="lock", priority=2)
    await bench.work(concurrency=3)
    return bench.order, await bench.statuses()


@table.same(["head", "sibling"])
async def a_head_whose_time_has_come_goes_first(bench: Bench) -> Any:
    await bench.defer("head", lock="lock", due_in=HOUR)
    await bench.defer("sibling", lock="lock")
    await bench.make_due("head")
    await bench.work()
    return bench.order


@table.differs(
    procrastinate=["urgent", "second", "first"],
    ours=["urgent", "first", "second"],
    because="of those that are scheduled the one that fell due first stands for the others",
)
async def jobs_of_one_lock_that_fell_due_stand_in_its_line(bench: Bench) -> Any:
    await bench.defer("first", lock="lock", priority=1, due_in=-2 * HOUR)
    await bench.defer("second", lock="lock", priority=2, due_in=-HOUR)
    await bench.defer("urgent", lock="lock", priority=3)
    await bench.work()
    return bench.order


@table.same(([], {"head": "todo", "sibling": "todo"}))
async def a_head_in_a_queue_that_is_not_served_blocks_its_lock(bench: Bench) -> Any:
    await bench.defer("head", lock="lock", queue="elsewhere")
    await bench.defer("sibling", lock="lock", queue="here")
    await bench.work(queues=["here"])
    return bench.order, await bench.statuses()


@table.same(["head", "sibling"])
async def a_lock_counts_across_the_queues_that_are_served(bench: Bench) -> Any:
    await bench.defer("head", lock="lock", queue="elsewhere")
    await bench.defer("sibling", lock="lock", queue="here")
    await bench.work(queues=["here", "elsewhere"], concurrency=2)
    return bench.order


@table.same((["head"], ["head", "sibling"]))
async def a_lock_counts_across_workers(bench: Bench) -> Any:
    gate = asyncio.Event()

    async def wait(_run: Run) -> None:
        await gate.wait()

    await bench.defer("head", wait, lock="lock")
    await bench.defer("sibling", lock="lock")
    async with bench.twin() as other, bench.working():
        await bench.starts("head")
        await other.work()
        meanwhile = bench.order
        gate.set()
        await bench.becomes("sibling", "succeeded")
    return meanwhile, bench.order


@table.same((["failing", "next"], {"failing": "failed", "next": "succeeded"}))
async def a_failure_frees_the_lock(bench: Bench) -> Any:
    await bench.defer("failing", fail, lock="lock")
    await bench.defer("next", lock="lock")
    await bench.work(concurrency=2)
    return bench.order, await bench.statuses()


@table.same((["failing", "failing", "next"], {"failing": "succeeded", "next": "succeeded"}))
async def a_job_that_runs_again_is_the_head_of_its_lock_still(bench: Bench) -> Any:
    await bench.defer("failing", fail_once, task="thrice", lock="lock")
    await bench.defer("next", lock="lock")
    await bench.work(concurrency=1)
    return bench.order, await bench.statuses()


@table.same((["failing"], {"failing": "todo", "next": "todo"}), plain_only=True)
async def a_job_that_runs_again_later_blocks_its_lock_meanwhile(bench: Bench) -> Any:
    bench.add("later", retry=RetryStrategy(wait=int(HOUR)))
    await bench.defer("failing", fail, task="later", lock="lock")
    await bench.defer("next", lock="lock")
    await bench.work(concurrency=2)
    return bench.order, await bench.statuses()


@table.same(["next"])
async def cancelling_the_head_frees_the_lock(bench: Bench) -> Any:
    head = await bench.defer("head", lock="lock")
    await bench.defer("next", lock="lock")
    await bench.request_stop(head)
    await bench.work()
    return bench.order


@table.same((1, ["first", "second"]), plain_only=True)
async def an_empty_lock_is_a_lock(bench: Bench) -> Any:
    await bench.defer("first", linger, lock="")
    await bench.defer("second", linger, lock="")
    await bench.work(concurrency=2)
    return bench.notes.peak, bench.order


@table.differs(
    procrastinate=False,
    ours=True,
    because="whoever ends a job of a lock knows that the next may run; waiting for a poll is idle",
)
async def the_next_job_of_a_lock_starts_without_waiting_for_a_poll(bench: Bench) -> Any:
    looked_in_vain = _note_the_first_look_in_vain(bench)

    async def until_the_worker_has_looked(_run: Run) -> None:
        await looked_in_vain.wait()

    await bench.defer("first", until_the_worker_has_looked, lock="lock")
    await bench.defer("second", lock="lock")
    async with bench.working(concurrency=2, fetch_job_polling_interval=HOUR):
        await bench.becomes("first", "succeeded")
        return await bench.starts("second", within=WHILE_NOTHING_HAPPENS)


def _note_the_first_look_in_vain(bench: Bench) -> asyncio.Event:
    """Return what is set once the library found nothing to fetch. Ours looks in another way, and
    need not have looked.
    """
    found_nothing = asyncio.Event()
    if bench.backend.side == "ours":
        found_nothing.set()
    manager: Any = bench.app.job_manager
    fetch = manager.fetch_job

    async def note(*arguments: Any, **options: Any) -> Any:
        job = await fetch(*arguments, **options)
        if job is None:
            found_nothing.set()
        return job

    manager.fetch_job = note
    return found_nothing


# Queues


async def _jobs_of_three_queues(bench: Bench, **options: Any) -> list[str]:
    for queue in ("a", "b", "c"):
        await bench.defer(f"in {queue}", queue=queue)
    await bench.work(**options)
    return bench.order


@table.same((["in b"], {"in a": "todo", "in b": "succeeded", "in c": "todo"}))
async def a_worker_of_one_queue_leaves_the_others(bench: Bench) -> Any:
    return await _jobs_of_three_queues(bench, queues=["b"]), await bench.statuses()


@table.same(["in a", "in c"])
async def a_worker_of_several_queues_serves_each(bench: Bench) -> Any:
    return await _jobs_of_three_queues(bench, queues=["c", "a"])


@table.same(["in a", "in b", "in c"])
async def a_worker_without_queues_serves_all(bench: Bench) -> Any:
    return await _jobs_of_three_queues(bench, queues=None)


@table.same([])
async def a_worker_of_an_empty_list_of_queues_serves_none(bench: Bench) -> Any:
    return await _jobs_of_three_queues(bench, queues=[])


@table.same((["in a"], {"in a": "succeeded", "in b": "todo", "in c": "todo"}))
async def an_unknown_queue_is_an_empty_one(bench: Bench) -> Any:
    return await _jobs_of_three_queues(bench, queues=["nobody's", "a"]), await bench.statuses()


# Schedule


@table.same(([], ("todo", 0), ["scheduled", "deferred"], True))
async def a_future_job_stays(bench: Bench) -> Any:
    await bench.defer("later", due_in=HOUR)
    await bench.work()
    job = (await bench.jobs())["later"]
    end = (await bench.ends())["later"]
    return bench.order, end, await bench.events("later"), abs(job["due_in"] - HOUR) < PATIENCE


@table.same((["past"], ("succeeded", 1), ["scheduled", "deferred", "started", "succeeded"], True))
async def a_past_job_runs_and_keeps_its_time(bench: Bench) -> Any:
    await bench.defer("past", due_in=-HOUR)
    await bench.work()
    job = (await bench.jobs())["past"]
    end = (await bench.ends())["past"]
    return bench.order, end, await bench.events("past"), abs(job["due_in"] + HOUR) < PATIENCE


@table.same((["now"], ("succeeded", 1), ["deferred", "started", "succeeded"], None))
async def a_job_without_a_time_has_none_afterwards(bench: Bench) -> Any:
    await bench.defer("now")
    await bench.work()
    job = (await bench.jobs())["now"]
    end = (await bench.ends())["now"]
    return bench.order, end, await bench.events("now"), job["scheduled_at"]


@table.same((["now"], ["now", "later"]))
async def a_job_whose_time_comes_runs(bench: Bench) -> Any:
    await bench.defer("later", due_in=HOUR, priority=9)
    await bench.defer("now")
    await bench.work()
    before = bench.order
    await bench.make_due("later")
    await bench.work()
    return before, bench.order


@table.same(["high and due", "middle", "low and due"])
async def due_jobs_and_others_run_by_priority_and_future_ones_do_not_count(bench: Bench) -> Any:
    await bench.defer("low and due", priority=1, due_in=-HOUR)
    await bench.defer("middle", priority=2)
    await bench.defer("high and due", priority=3, due_in=-1)
    await bench.defer("highest and later", priority=4, due_in=HOUR)
    await bench.work()
    return bench.order


@table.differs(
    procrastinate=["due last", "without", "due first"],
    ours=["without", "due first", "due last"],
    because="among those that fell due a claim reads the ones due first, not all of them",
)
async def due_jobs_of_one_priority_run_by_id_or_by_time(bench: Bench) -> Any:
    await bench.defer("due last", due_in=-1)
    await bench.defer("without")
    await bench.defer("due first", due_in=-HOUR)
    await bench.work()
    return bench.order


# Retries


@table.same((["job"], {"job": ("failed", 1)}, ["deferred", "started", "failed"]))
async def without_a_retry_a_failure_is_the_end(bench: Bench) -> Any:
    await bench.defer("job", fail)
    await bench.work()
    return bench.order, await bench.ends(), await bench.events("job")


@table.same({"async": ("failed", 3), "plain": ("failed", 3)})
async def a_job_fails_once_its_runs_are_used_up(bench: Bench) -> Any:
    await bench.defer("async", fail, task="thrice")
    await bench.defer("plain", fail, task="plain_thrice")
    await bench.work()
    return await bench.ends()


@table.same((["job", "job"], {"job": ("succeeded", 2)}))
async def a_second_run_may_succeed(bench: Bench) -> Any:
    await bench.defer("job", fail_once, task="thrice")
    await bench.work()
    return bench.order, await bench.ends()


@table.same(
    (["deferred", "started", "scheduled", "deferred_for_retry", "started", "succeeded"], True)
)
async def a_retry_is_an_event_and_leaves_the_time_it_was_due(bench: Bench) -> Any:
    await bench.defer("job", fail_once, task="thrice")
    await bench.work()
    job = (await bench.jobs())["job"]
    return await bench.events("job"), job["scheduled_at"] is not None


@table.same(["retried", "retried", "younger"], plain_only=True)
async def a_job_that_runs_again_keeps_its_place_among_younger_ones(bench: Bench) -> Any:
    bench.add("later", retry=RetryStrategy(wait=int(HOUR)))
    await bench.defer("retried", fail_once, task="later")
    await bench.work()
    await bench.defer("younger")
    await bench.make_due("retried")
    await bench.work()
    return bench.order


@table.same((["job", "job", "job"], {"job": ("failed", 3)}), plain_only=True)
async def a_number_of_retries_is_in_addition_to_the_first_run(bench: Bench) -> Any:
    bench.add("twice_more", retry=2)
    await bench.defer("job", fail, task="twice_more")
    await bench.work()
    return bench.order, await bench.ends()


@table.same({"job": ("succeeded", 5)}, plain_only=True)
async def retry_true_has_no_limit(bench: Bench) -> Any:
    def fail_four_times(run: Run) -> None:
        if run.number < 5:
            fail(run)

    bench.add("for_ever", retry=True)
    await bench.defer("job", fail_four_times, task="for_ever")
    await bench.work()
    return await bench.ends()


async def _minutes_until_the_retry(bench: Bench, strategy: RetryStrategy) -> Any:
    bench.add("patient", retry=strategy)
    await bench.defer("job", fail, task="patient")
    await bench.work()
    return await bench.ends(), round((await bench.jobs())["job"]["due_in"] / 60)


@table.same(({"job": ("todo", 1)}, 60), plain_only=True)
async def a_retry_in_the_future_waits_for_its_time(bench: Bench) -> Any:
    return await _minutes_until_the_retry(bench, RetryStrategy(max_attempts=5, wait=3600))


@table.same(({"job": ("todo", 2)}, 60), plain_only=True)
async def a_linear_wait_begins_with_none(bench: Bench) -> Any:
    return await _minutes_until_the_retry(bench, RetryStrategy(linear_wait=3600))


@table.same(({"job": ("todo", 1)}, 10), plain_only=True)
async def an_exponential_wait_begins_with_its_base(bench: Bench) -> Any:
    return await _minutes_until_the_retry(bench, RetryStrategy(exponential_wait=600))


@table.same({"listed": ("succeeded", 2), "other": ("failed", 1)}, plain_only=True)
async def only_listed_exceptions_are_retried(bench: Bench) -> Any:
    def fail_otherwise(_run: Run) -> None:
        raise LookupError

    bench.add("listed", retry=RetryStrategy(retry_exceptions=[ConnectionError]))
    await bench.defer("listed", fail_once, task="listed")
    await bench.defer("other", fail_otherwise, task="listed")
    await bench.work()
    return await bench.ends()


class Once(BaseRetryStrategy):
    """One retry as it is told; notes what it was asked."""

    def __init__(self, **decision: Any) -> None:
        self.decision = RetryDecision(**decision)
        self.asked: list[tuple[str, int, str]] = []

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        self.asked.append((type(exception).__name__, job.attempts, str(job.task_kwargs["label"])))
        return None if job.attempts else self.decision


@table.same(
    ([("ConnectionError", 0, "job"), ("ConnectionError", 1, "job")], {"job": ("failed", 2)}),
    plain_only=True,
)
async def a_strategy_is_asked_with_the_error_and_the_runs_before(bench: Bench) -> Any:
    strategy = Once()
    bench.add("once_more", retry=strategy)
    await bench.defer("job", fail, task="once_more")
    await bench.work()
    return strategy.asked, await bench.ends()


@table.same((["job", "other", "job"], -5), plain_only=True)
async def a_strategy_may_change_the_priority(bench: Bench) -> Any:
    bench.add("once_more", retry=Once(priority=-5))
    await bench.defer("job", fail_once, task="once_more")
    await bench.defer("other")
    await bench.work()
    return bench.order, (await bench.jobs())["job"]["priority"]


@table.same((["job"], "second", ["job", "job"]), plain_only=True)
async def a_strategy_may_change_the_queue(bench: Bench) -> Any:
    bench.add("once_more", retry=Once(queue="second"))
    await bench.defer("job", fail_once, task="once_more", queue="first")
    await bench.work(queues=["first"])
    in_first, queue = bench.order, (await bench.jobs())["job"]["queue_name"]
    await bench.work(queues=["second"])
    return in_first, queue, bench.order


@table.same(
    (["job", "sibling"], {"head": "todo", "job": "todo", "sibling": "succeeded"}, "taken"),
    plain_only=True,
)
async def a_strategy_may_change_the_lock(bench: Bench) -> Any:
    bench.add("once_more", retry=Once(lock="taken"))
    await bench.defer("head", lock="taken", queue="elsewhere")
    await bench.defer("job", fail_once, task="once_more", lock="left")
    await bench.defer("sibling", lock="left")
    await bench.work(queues=["samples"])
    return bench.order, await bench.statuses(), (await bench.jobs())["job"]["lock"]


@table.same(({"job": ("succeeded", 2)}, ("samples", 4, "lock")), plain_only=True)
async def what_a_strategy_does_not_change_stays(bench: Bench) -> Any:
    bench.add("once_more", retry=Once())
    await bench.defer("job", fail_once, task="once_more", priority=4, lock="lock")
    await bench.work()
    job = (await bench.jobs())["job"]
    return await bench.ends(), (job["queue_name"], job["priority"], job["lock"])


@table.same({"job": ("succeeded", 2)}, plain_only=True)
async def a_retry_in_the_past_runs_at_once(bench: Bench) -> Any:
    bench.add("once_more", retry=Once(retry_at=datetime.now(UTC) - timedelta(hours=1)))
    await bench.defer("job", fail_once, task="once_more")
    await bench.work()
    return await bench.ends()


class Broken(BaseRetryStrategy):
    """Cannot say whether to run again."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        raise LookupError


@table.same({"job": ("failed", 1), "next": ("succeeded", 1)}, plain_only=True)
async def a_strategy_that_fails_itself_ends_the_job(bench: Bench) -> Any:
    bench.add("broken", retry=Broken())
    await bench.defer("job", fail, task="broken")
    await bench.defer("next")
    await bench.work()
    return await bench.ends()


@table.same(
    (
        {"job": ("succeeded", 3)},
        ["deferred", "started", "failed", "scheduled", "retried", "started", "succeeded"],
    )
)
async def a_failed_job_sent_back_by_hand_runs_again_and_sending_counts(bench: Bench) -> Any:
    job_id = await bench.defer("job", fail_once)
    await bench.work()
    await bench.app.job_manager.retry_job_by_id_async(job_id, retry_at=datetime.now(UTC))
    await bench.work()
    return await bench.ends(), await bench.events("job")


# What a task says of its own run


def _snooze(_run: Run) -> None:
    raise Snooze(seconds=HOUR)


@table.differs(
    procrastinate={"async": ("failed", 1), "plain": ("failed", 1)},
    ours={"async": ("todo", 1), "plain": ("todo", 1)},
    because="a task may find that it came too early, and that is no failure",
)
async def a_job_that_snoozes_waits_for_its_time(bench: Bench) -> Any:
    await bench.defer("async", _snooze)
    await bench.defer("plain", _snooze, task="plain_step")
    await bench.work()
    return await bench.ends()


def _discard(run: Run) -> None:
    try:
        fail(run)
    except ConnectionError as error:
        raise Discard("of no use") from error


@table.differs(
    procrastinate={"async": ("failed", 3), "plain": ("failed", 3)},
    ours={"async": ("failed", 1), "plain": ("failed", 1)},
    because="a task may know that another run is of no use",
)
async def a_job_that_discards_itself_does_not_run_again(bench: Bench) -> Any:
    await bench.defer("async", _discard, task="thrice")
    await bench.defer("plain", _discard, task="plain_thrice")
    await bench.work()
    return await bench.ends()


# Stopping a job


@table.same((True, [], {"job": ("cancelled", 0)}, ["deferred", "abort_requested", "cancelled"]))
async def a_job_that_waits_is_cancelled_at_once_by_an_abort(bench: Bench) -> Any:
    stopped = await bench.request_stop(await bench.defer("job"))
    await bench.work()
    return stopped, bench.order, await bench.ends(), await bench.events("job")


@table.same((True, [], {"job": ("cancelled", 0)}, ["scheduled", "deferred", "cancelled"]))
async def a_job_that_waits_can_be_cancelled_without_an_abort(bench: Bench) -> Any:
    stopped = await bench.request_stop(await bench.defer("job", due_in=HOUR), abort=False)
    await bench.work()
    return stopped, bench.order, await bench.ends(), await bench.events("job")


@table.same((True, ["job"], {"job": ("cancelled", 1)}), plain_only=True)
async def a_job_that_waits_for_its_retry_is_cancelled_at_once_by_an_abort(bench: Bench) -> Any:
    bench.add("later", retry=RetryStrategy(wait=int(HOUR)))
    job_id = await bench.defer("job", fail, task="later")
    await bench.work()
    stopped = await bench.request_stop(job_id)
    await bench.make_due("job")
    await bench.work()
    return stopped, bench.order, await bench.ends()


async def _stopped_while_it_runs(
    bench: Bench,
    does: Callable[[Run], Awaitable[None] | None],
    *,
    task: str = "step",
    **options: Any,
) -> Any:
    job_id = await bench.defer("job", does, task=task)
    async with bench.working(**options):
        await bench.starts("job")
        assert await bench.request_stop(job_id)
        await bench.becomes("job", "succeeded", "failed", "aborted", "todo")
    return await bench.ends(), bench.order


async def _for_ever(_run: Run) -> None:
    await asyncio.Event().wait()


@table.same((({"job": ("aborted", 1)}, ["job"]), True))
async def a_running_async_job_is_cancelled_by_an_abort(bench: Bench) -> Any:
    seen = []

    async def note_the_cancel(run: Run) -> None:
        try:
            await _for_ever(run)
        except asyncio.CancelledError:
            seen.append(run.stop_asked())
            raise

    return await _stopped_while_it_runs(bench, note_the_cancel), *seen


@table.same((["deferred", "started", "abort_requested", "aborted"], False))
async def an_abort_is_an_event_and_the_request_is_over_with_the_end(bench: Bench) -> Any:
    await _stopped_while_it_runs(bench, _for_ever)
    return await bench.events("job"), (await bench.jobs())["job"]["abort_requested"]


@table.same(({"job": ("succeeded", 1)}, ["job"]))
async def an_async_job_that_swallows_the_cancellation_succeeds(bench: Bench) -> Any:
    async def swallow(run: Run) -> None:
        try:
            await _for_ever(run)
        except asyncio.CancelledError:
            return

    return await _stopped_while_it_runs(bench, swallow)


async def _fail_when_cancelled(run: Run) -> None:
    try:
        await _for_ever(run)
    except asyncio.CancelledError:
        fail(run)


@table.same(({"job": ("failed", 1)}, ["job"]))
async def an_async_job_that_answers_an_abort_with_an_error_fails(bench: Bench) -> Any:
    return await _stopped_while_it_runs(bench, _fail_when_cancelled)


def _obey(run: Run) -> None:
    run.wait_until_stop_is_asked()
    raise JobAborted


@table.same(({"job": ("aborted", 1)}, ["job"]))
async def a_plain_job_that_sees_the_abort_and_raises_is_aborted(bench: Bench) -> Any:
    return await _stopped_while_it_runs(bench, _obey, task="plain_step")


@table.same(({"job": ("aborted", 1)}, ["job"]))
async def a_job_that_is_aborted_does_not_run_again(bench: Bench) -> Any:
    return await _stopped_while_it_runs(bench, _obey, task="plain_thrice")


@table.same((({"job": ("succeeded", 1)}, ["job"]), False))
async def a_plain_job_that_takes_no_notice_of_an_abort_succeeds(bench: Bench) -> Any:
    asked = threading.Event()

    def never_look(_run: Run) -> None:
        assert asked.wait(PATIENCE)

    job_id = await bench.defer("job", never_look, task="plain_step")
    async with bench.working():
        await bench.starts("job")
        assert await bench.request_stop(job_id)
        asked.set()
        await bench.becomes("job", "succeeded", "failed", "aborted", "todo")
    return (await bench.ends(), bench.order), (await bench.jobs())["job"]["abort_requested"]


def _fail_when_asked(run: Run) -> None:
    run.wait_until_stop_is_asked()
    fail(run)


@table.same(({"job": ("failed", 1)}, ["job"]))
async def a_plain_job_that_answers_an_abort_with_an_error_fails(bench: Bench) -> Any:
    return await _stopped_while_it_runs(bench, _fail_when_asked, task="plain_step")


NOT_A_FAILURE = (
    "somebody asked for the end and got it; a failure would ask for attention, and the run counts"
)


@table.differs(
    procrastinate=({"job": ("failed", 0)}, ["job"]),
    ours=({"job": ("aborted", 1)}, ["job"]),
    because=NOT_A_FAILURE,
)
async def an_async_job_asked_to_stop_does_not_run_again(bench: Bench) -> Any:
    return await _stopped_while_it_runs(bench, _fail_when_cancelled, task="thrice")


@table.differs(
    procrastinate=({"job": ("failed", 0)}, ["job"]),
    ours=({"job": ("aborted", 1)}, ["job"]),
    because=NOT_A_FAILURE,
)
async def a_plain_job_asked_to_stop_does_not_run_again(bench: Bench) -> Any:
    return await _stopped_while_it_runs(bench, _fail_when_asked, task="plain_thrice")


@table.differs(
    procrastinate=({"job": ("failed", 0)}, ["job"]),
    ours=({"job": ("aborted", 1)}, ["job"]),
    because=NOT_A_FAILURE,
)
async def a_cancelled_async_job_that_could_run_again_does_not(bench: Bench) -> Any:
    return await _stopped_while_it_runs(bench, _for_ever, task="thrice")


@table.differs(
    procrastinate=(["deferred", "started", "abort_requested", "failed"], True),
    ours=(["deferred", "started", "abort_requested", "aborted"], False),
    because=NOT_A_FAILURE,
)
async def an_abort_instead_of_a_retry_is_an_event_and_the_request_is_over(bench: Bench) -> Any:
    await _stopped_while_it_runs(bench, _fail_when_asked, task="plain_thrice")
    return await bench.events("job"), (await bench.jobs())["job"]["abort_requested"]


@table.same({"job": ("aborted", 1), "next": ("succeeded", 1)})
async def an_abort_frees_the_lock(bench: Bench) -> Any:
    job_id = await bench.defer("job", _for_ever, lock="lock")
    await bench.defer("next", lock="lock")
    async with bench.working():
        await bench.starts("job")
        await bench.request_stop(job_id)
        await bench.becomes("next", "succeeded")
    return await bench.ends()


@table.same((False, {"job": ("succeeded", 1)}))
async def a_cancel_without_an_abort_does_not_touch_a_running_job(bench: Bench) -> Any:
    gate = asyncio.Event()

    async def wait(_run: Run) -> None:
        await gate.wait()

    job_id = await bench.defer("job", wait)
    async with bench.working():
        await bench.starts("job")
        stopped = await bench.request_stop(job_id, abort=False)
        gate.set()
        await bench.becomes("job", "succeeded")
    return stopped, await bench.ends()


@table.same((False, {"job": ("succeeded", 1)}))
async def an_ended_job_cannot_be_stopped(bench: Bench) -> Any:
    job_id = await bench.defer("job")
    await bench.work()
    return await bench.request_stop(job_id), await bench.ends()


@table.same({"async": ("aborted", 1), "plain": ("aborted", 1)})
async def a_job_may_abort_itself_unasked(bench: Bench) -> Any:
    def give_up(_run: Run) -> None:
        raise JobAborted

    await bench.defer("async", give_up, task="thrice")
    await bench.defer("plain", give_up, task="plain_thrice")
    await bench.work()
    return await bench.ends()


@table.same({"job": ("aborted", 1), "next": ("succeeded", 1)})
async def an_async_job_that_cancels_itself_is_aborted(bench: Bench) -> Any:
    def cancel(_run: Run) -> None:
        raise asyncio.CancelledError

    await bench.defer("job", cancel)
    await bench.defer("next")
    async with bench.working():
        await bench.becomes("next", "succeeded")
    return await bench.ends()


@table.same({"job": ("aborted", 3)}, plain_only=True)
async def an_async_job_that_cancels_itself_runs_again_if_it_may(bench: Bench) -> Any:
    def cancel(_run: Run) -> None:
        raise asyncio.CancelledError

    bench.add("twice_more", retry=2)
    await bench.defer("job", cancel, task="twice_more")
    async with bench.working():
        await bench.becomes("job", "aborted")
    return await bench.ends()


# Queueing locks


@table.same((["first"], {"first": "succeeded"}))
async def a_second_job_with_a_queueing_lock_is_refused_while_the_first_waits(bench: Bench) -> Any:
    await bench.defer("first", queueing_lock="one")
    with pytest.raises(REFUSED):
        await bench.defer("second", queueing_lock="one")
    await bench.work()
    return bench.order, await bench.statuses()


@table.same({"later": "todo"})
async def a_job_that_is_scheduled_ahead_waits_too(bench: Bench) -> Any:
    await bench.defer("later", queueing_lock="one", due_in=HOUR)
    with pytest.raises(REFUSED):
        await bench.defer("now", queueing_lock="one")
    return await bench.statuses()


@table.same((["first", "second"], {"first": "succeeded", "second": "succeeded"}))
async def a_second_job_is_let_in_once_the_first_runs(bench: Bench) -> Any:
    async def defer_second(_run: Run) -> None:
        await bench.defer("second", queueing_lock="one")

    await bench.defer("first", defer_second, queueing_lock="one")
    await bench.work()
    return bench.order, await bench.statuses()


@table.same({"first": "cancelled", "second": "succeeded"})
async def a_cancelled_job_gives_its_queueing_lock_back(bench: Bench) -> Any:
    await bench.request_stop(await bench.defer("first", queueing_lock="one"))
    await bench.defer("second", queueing_lock="one")
    await bench.work()
    return await bench.statuses()


async def _its_retry_finds_the_queueing_lock_taken(bench: Bench) -> None:
    async def be_replaced(run: Run) -> None:
        await bench.defer("younger", queueing_lock="one", due_in=HOUR)
        fail(run)

    await bench.defer("older", be_replaced, task="thrice", queueing_lock="one", lock="lock")
    await bench.defer("next", lock="lock")
    await bench.work()


GIVES_WAY = (
    "a job that runs for ever on paper holds its lock for ever; the one that waits takes over"
)


@table.differs(
    procrastinate={"older": ("doing", 0), "next": ("todo", 0), "younger": ("todo", 0)},
    ours={"older": ("aborted", 1), "next": ("succeeded", 1), "younger": ("todo", 0)},
    because=GIVES_WAY,
)
async def a_retry_whose_queueing_lock_is_taken_gives_way(bench: Bench) -> Any:
    await _its_retry_finds_the_queueing_lock_taken(bench)
    return await bench.ends()


@table.differs(
    procrastinate=["deferred", "started"],
    ours=["deferred", "started", "aborted"],
    because=GIVES_WAY,
)
async def a_retry_that_gives_way_is_an_event(bench: Bench) -> Any:
    await _its_retry_finds_the_queueing_lock_taken(bench)
    return await bench.events("older")


# Schedules


@table.same(({"tick": 1, "tock": 1}, True))
async def a_tick_is_deferred_once_by_two_workers_and_told_when_it_was_due(bench: Bench) -> Any:
    due = due_before(minutes=5)
    async with bench.twin(tick=due) as first, first.working(queues=["elsewhere"]):
        await first.becomes("tick", "todo")
        # Once its own tock is there, the second worker has looked at the tick as well.
        async with bench.twin(tick=due, tock=due) as second, second.working():
            await second.becomes("tock", "succeeded")
    told = [("tick", int(due.timestamp())), ("tock", int(due.timestamp()))]
    return await bench.job_counts(), bench.notes.timestamps == told


@table.same({"tock": 1})
async def a_tick_that_is_ten_minutes_late_is_left_out(bench: Bench) -> Any:
    late, due = due_before(minutes=20), due_before(minutes=5)
    async with bench.twin(tick=late, tock=due) as other, other.working():
        await other.becomes("tock", "succeeded")
    return await bench.job_counts()


# Deleting jobs


async def _ends_of_each_kind(bench: Bench, **options: Any) -> Any:
    await bench.defer("good")
    await bench.defer("bad", fail)
    await bench.defer("good at last", fail_once, task="thrice")
    await bench.work(**options)
    return bench.order.count("good at last"), await bench.statuses()


@table.same((2, {"good": "succeeded", "bad": "failed", "good at last": "succeeded"}))
async def jobs_stay_by_default(bench: Bench) -> Any:
    return await _ends_of_each_kind(bench)


@table.same((2, {"good": "succeeded", "bad": "failed", "good at last": "succeeded"}))
async def jobs_are_never_deleted_when_told_so(bench: Bench) -> Any:
    return await _ends_of_each_kind(bench, delete_jobs="never")


@table.same((2, {"bad": "failed"}))
async def jobs_that_succeed_are_deleted_when_told_so(bench: Bench) -> Any:
    return await _ends_of_each_kind(bench, delete_jobs="successful")


@table.same((2, {}))
async def all_jobs_are_deleted_when_told_so_but_not_before_their_last_run(bench: Bench) -> Any:
    return await _ends_of_each_kind(bench, delete_jobs="always")


@table.same({"next": "succeeded"})
async def a_job_deleted_at_its_end_frees_its_lock(bench: Bench) -> Any:
    await bench.defer("job", lock="lock")
    await bench.work(delete_jobs="always")
    await bench.defer("next", lock="lock")
    await bench.work()
    return await bench.statuses()


@table.same({}, plain_only=True)
async def a_job_whose_strategy_fails_is_deleted_like_any_other(bench: Bench) -> Any:
    bench.add("broken", retry=Broken())
    await bench.defer("job", fail, task="broken")
    await bench.work(delete_jobs="always")
    return await bench.statuses()


# Concurrency


@table.same((3, 12))
async def no_more_async_jobs_run_at_once_than_allowed(bench: Bench) -> Any:
    three = asyncio.Barrier(3)

    async def meet(run: Run) -> None:
        await three.wait()  # passes only if as many do run at once
        await linger(run)

    for number in range(12):
        await bench.defer(f"job {number}", meet)
    await bench.work(concurrency=3)
    return bench.notes.peak, len(bench.order)


@table.same({"one": "succeeded", "other": "succeeded"})
async def plain_jobs_run_side_by_side(bench: Bench) -> Any:
    both = threading.Barrier(2)

    def meet(_run: Run) -> None:
        both.wait(timeout=PATIENCE)

    await bench.defer("one", meet, task="plain_step")
    await bench.defer("other", meet, task="plain_step")
    await bench.work(concurrency=2)
    return await bench.statuses()


@table.differs(
    procrastinate={"one": "failed", "other": "failed"},
    ours={"one": "succeeded", "other": "succeeded"},
    because="concurrency counts async jobs; plain ones have threads, counted by a setting apart",
)
async def plain_jobs_do_not_count_as_concurrent(bench: Bench) -> Any:
    both = threading.Barrier(2)

    def meet(_run: Run) -> None:
        both.wait(timeout=WHILE_NOTHING_HAPPENS)

    await bench.defer("one", meet, task="plain_step")
    await bench.defer("other", meet, task="plain_step")
    await bench.work(concurrency=1)
    return await bench.statuses()


# Names


@table.differs(
    procrastinate=({"stranger": ("failed", 1), "job": ("succeeded", 1)}, "failed"),
    ours=({"stranger": ("todo", 0), "job": ("succeeded", 1)}, "deferred"),
    because="another worker, or the next release, may know the name; a failure is for good",
)
async def a_job_with_an_unknown_name_waits_for_a_worker_that_knows_it(bench: Bench) -> Any:
    await bench.defer("stranger", task="nobody_knows", priority=9)
    await bench.defer("job")
    await bench.work()
    return await bench.ends(), (await bench.events("stranger"))[-1]


@table.differs(
    procrastinate=({"stranger": "failed", "next": "succeeded"}, ["next"]),
    ours=({"stranger": "todo", "next": "todo"}, []),
    because="a job that waits keeps its place: jobs of a lock run in order or not at all",
)
async def a_job_with_an_unknown_name_is_the_head_of_its_lock(bench: Bench) -> Any:
    await bench.defer("stranger", task="nobody_knows", lock="lock")
    await bench.defer("next", lock="lock")
    await bench.work(concurrency=2)
    return await bench.statuses(), bench.order


@table.same({"job": ("succeeded", 1)}, plain_only=True)
async def an_alias_is_a_name(bench: Bench) -> Any:
    bench.add("new_name", aliases=["old_name"])
    await bench.defer("job", task="old_name")
    await bench.work()
    return await bench.ends()


@table.same({"job": ("succeeded", 1)}, plain_only=True)
async def a_task_added_after_the_first_run_of_a_worker_is_known_to_the_next(bench: Bench) -> Any:
    await bench.work()
    bench.add("late")
    await bench.defer("job", task="late")
    await bench.work()
    return await bench.ends()


# Functions


@table.same((True, False))
async def async_functions_run_on_the_loop_and_plain_ones_in_threads(bench: Bench) -> Any:
    await bench.defer("async")
    await bench.defer("plain", task="plain_step")
    await bench.work()
    threads = {run.label: run.thread for run in bench.notes.runs}
    here = threading.get_ident()
    return threads["async"] == here, threads["plain"] == here


@table.same(({"job": "succeeded"}, [{"label": "job"}]), plain_only=True)
async def a_function_without_a_context_gets_its_arguments_only(bench: Bench) -> Any:
    seen = []

    async def function(**arguments: Any) -> None:
        seen.append(arguments)

    bench.add("without", function)
    await bench.defer("job", task="without")
    await bench.work()
    return await bench.statuses(), seen


@table.same(
    [
        ("async", "async_function", 0, ["samples"], {"more": 1}, False),
        ("plain", "plain_function", 0, ["samples"], {"more": 1}, False),
    ],
    plain_only=True,
)
async def a_context_tells_about_job_and_worker(bench: Bench) -> Any:
    seen = []

    def note(context: JobContext, label: str) -> None:
        job = context.job
        seen.append(
            (
                job.task_kwargs["label"],
                context.task.name,
                job.attempts,
                list(context.worker_queues or []),
                context.additional_context,
                context.should_abort(),
            )
        )

    async def async_function(context: JobContext, label: str) -> None:
        note(context, label)

    bench.add("async_function", async_function, pass_context=True)
    bench.add("plain_function", note, pass_context=True)
    await bench.defer("async", task="async_function")
    await bench.work(queues=["samples"], additional_context={"more": 1})
    await bench.defer("plain", task="plain_function")
    await bench.work(queues=["samples"], additional_context={"more": 1})
    return seen


@table.same({"job": ("failed", 1)}, plain_only=True)
async def arguments_that_do_not_fit_are_a_failure(bench: Bench) -> Any:
    async def function(something_else: str) -> None:
        raise AssertionError(something_else)

    bench.add("other_arguments", function)
    await bench.defer("job", task="other_arguments")
    await bench.work()
    return await bench.ends()


@table.same(({"job": ("succeeded", 1)}, ["job"]), plain_only=True)
async def what_a_plain_function_returns_is_awaited_if_it_can_be(bench: Bench) -> Any:
    seen = []

    async def inner(label: str) -> None:
        seen.append(label)

    def function(label: str) -> Awaitable[None]:
        return inner(label)

    bench.add("indirect", function)
    await bench.defer("job", task="indirect")
    await bench.work()
    return await bench.ends(), seen


@table.same(({"async": "succeeded", "plain": "succeeded"}, ["in", "out"] * 2), plain_only=True)
async def the_middleware_of_a_task_is_called_around_it(bench: Bench) -> Any:
    seen = []

    async def around_async(call_next: Any, _context: Any, _worker: Any) -> Any:
        seen.append("in")
        result = await call_next()
        seen.append("out")
        return result

    def around_plain(call_next: Any, _context: Any, _worker: Any) -> Any:
        seen.append("in")
        result = call_next()
        seen.append("out")
        return result

    async def async_function(label: str) -> str:
        return label

    def plain_function(label: str) -> str:
        return label

    bench.add("async_function", async_function, task_middleware=[around_async])
    bench.add("plain_function", plain_function, task_middleware=[around_plain])
    await bench.defer("async", task="async_function")
    await bench.work()
    await bench.defer("plain", task="plain_function")
    await bench.work()
    return await bench.statuses(), seen


# Workers


async def _has_a_worker(bench: Bench, label: str) -> bool:
    return (await bench.jobs())[label]["worker_id"] is not None


HAS_LEFT = "worker_id tells who runs a job now; a job that nobody runs names nobody"


@table.differs(procrastinate=(True, True, False), ours=(True, False, False), because=HAS_LEFT)
async def a_job_that_ended_names_no_worker(bench: Bench) -> Any:
    gate = asyncio.Event()

    async def wait(_run: Run) -> None:
        await gate.wait()

    await bench.defer("job", wait)
    async with bench.working():
        await bench.starts("job")
        running = await _has_a_worker(bench, "job")
        gate.set()
        await bench.becomes("job", "succeeded")
        ended = await _has_a_worker(bench, "job")
    return running, ended, await _has_a_worker(bench, "job")


@table.differs(procrastinate=True, ours=False, because=HAS_LEFT, plain_only=True)
async def a_job_that_waits_for_its_retry_names_no_worker(bench: Bench) -> Any:
    bench.add("later", retry=RetryStrategy(wait=int(HOUR)))
    await bench.defer("job", fail, task="later")
    async with bench.working():
        await bench.starts("job")
        await bench.becomes("job", "todo")
        return await _has_a_worker(bench, "job")


@table.same({"job": ("succeeded", 1)})
async def a_worker_that_is_stopped_lets_its_jobs_end(bench: Bench) -> Any:
    gate = asyncio.Event()

    async def wait(_run: Run) -> None:
        await gate.wait()

    await bench.defer("job", wait)
    async with bench.working():
        await bench.starts("job")
        asyncio.get_running_loop().call_soon(gate.set)
    return await bench.ends()


@table.differs(
    procrastinate={"job": ("aborted", 1), "next": ("todo", 0)},
    ours={"job": ("todo", 1), "next": ("todo", 0)},
    because="nobody asked for the job's end, only for the worker's: another worker begins it anew",
)
async def a_worker_that_must_not_wait_gives_up_what_runs(bench: Bench) -> Any:
    await bench.defer("job", _for_ever)
    await bench.defer("next")
    async with bench.working(shutdown_graceful_timeout=0.01):
        await bench.starts("job")
    return await bench.ends()


@table.same({"job": ("todo", 1)}, plain_only=True)
async def a_job_aborted_by_the_end_of_its_worker_runs_again_if_it_may(bench: Bench) -> Any:
    await bench.defer("job", _for_ever, task="thrice")
    async with bench.working(shutdown_graceful_timeout=0.01):
        await bench.starts("job")
    return await bench.ends()


CASES = [
    pytest.param(row, backend, id=f"{row.name}-{backend.name}")
    for row in table.rows
    for backend in BACKENDS
    if row.fits(backend)
]


@pytest.fixture
def _tables(test_database_url: str) -> Iterator[None]:
    """Empty what the workers committed: far quicker than Django's flush of all tables."""
    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()
    with psycopg.connect(test_database_url, autocommit=True) as other:
        other.execute(EMPTY_TABLES)


async def _observed(row: Row, backend: Backend) -> Any:
    async with asyncio.timeout(3 * PATIENCE), Bench.opened(backend) as bench:
        return await row.scenario(bench)


@pytest.mark.django_db
@pytest.mark.usefixtures("_tables")
@pytest.mark.parametrize(("row", "backend"), CASES)
def test_semantics(row: Row, backend: Backend) -> None:
    observed = asyncio.run(_observed(row, backend))

    assert observed == row.expected[backend.side]


@pytest.mark.django_db
@pytest.mark.usefixtures("_tables")
def test_the_task_of_a_retry_that_gives_way_says_so() -> None:
    async def scenario() -> int:
        async with Bench.opened(OursDeclared()) as bench:
            await _its_retry_finds_the_queueing_lock_taken(bench)
            return int((await bench.jobs())["older"]["id"])

    task = Task.objects.get(job_id=asyncio.run(scenario()))

    assert (task.status, task.error["code"]) == ("CANCELLED", "superseded")


def test_each_rule_is_written_once() -> None:
    names = [row.name for row in table.rows]
    assert sorted(names) == sorted(set(names))


def test_each_difference_is_one_and_has_its_reason() -> None:
    for row in table.rows:
        differs = row.expected["procrastinate"] != row.expected["ours"]
        assert differs == bool(row.because), row.name
