"""What the campaign defers."""

import psycopg

from pgjobs.contract.retries import NO_RETRY, TRANSIENT_ERRORS, RetryPolicy
from pgjobs.defer.bridge import declare

QUEUE = "faults"
# Of jobs that look at nothing.
HARD_LIMIT = 4.0

# A database that is away fails what runs at the moment, several times in a long campaign.
# The ledgers' own connections raise the driver's errors, not Django's.
PATIENT = RetryPolicy(
    max_attempts=50,
    base_seconds=0.1,
    cap_seconds=1.0,
    on=(*TRANSIENT_ERRORS, psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction),
)
AT_ONCE = RetryPolicy(max_attempts=10_000, base_seconds=0.001, cap_seconds=0.001)


@declare(queue=QUEUE, retry=PATIENT)
def pay(number: int, seconds: float = 0.0, fails: int = 0) -> None:
    """Have an effect in the transaction of the job's end."""


@declare(queue=QUEUE, retry=PATIENT)
def pay_plainly(number: int, seconds: float = 0.0, fails: int = 0) -> None:
    """Have an effect that is committed by itself: at least once is all that can be had."""


@declare(queue=QUEUE, retry=PATIENT)
def wander(number: int, seconds: float = 0.0, fails: int = 0) -> None:
    """Take time on the event loop, and have such an effect."""


@declare(queue=QUEUE, retry=PATIENT)
def share(number: int, row: int, seconds: float = 0.0) -> None:
    """Have such effects on a row that others write as well, and on a key that is unique."""


@declare(queue=QUEUE, retry=PATIENT)
def pass_by() -> None:
    """Do nothing, on no ledger: for loads."""


@declare(queue=QUEUE, lock="turn:{key}", retry=PATIENT)
def take_turn(number: int, key: int, seconds: float = 0.0, fails: int = 0) -> None:
    """Be alone with a key."""


@declare(queue=QUEUE, retry=PATIENT)
def take_no_turn(number: int, key: int, seconds: float = 0.0, fails: int = 0) -> None:
    """The same without a lock: what an engine would do that forgets it."""


@declare(queue=QUEUE)
def die(number: int, how: str) -> None:
    """Take the worker along."""


@declare(queue=QUEUE, retry=NO_RETRY)
def answer(number: int, kind: str) -> None:
    """Come to a result or an error that is hard to store."""


@declare(queue=QUEUE, retry=NO_RETRY)
def answer_async(number: int, kind: str) -> None:
    """Do it on the event loop."""


@declare(queue=QUEUE)
def call_out(number: int) -> None:
    """Call a dependency that is down, with the retry policy that every task has by default."""


@declare(queue=QUEUE, retry=AT_ONCE)
def call_out_hastily(number: int) -> None:
    """Call it again at once, for ever."""


@declare(queue=QUEUE)
def ignore(number: int, how: str) -> None:
    """Go on whatever it is told: spin in a loop, or block in a call of C."""
