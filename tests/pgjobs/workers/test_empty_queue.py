"""What empties the Tasks empties the queue: no job runs without its Task."""

import job_samples
import pytest
from django.core.management import call_command
from django.db import connection

from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db(transaction=True)


def _jobs() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs")
        return int(cursor.fetchone()[0])


def test_flush_empties_the_queue() -> None:
    """So do the ends of TransactionTestCase and LiveServerTestCase, which call it."""
    job_samples.nap.defer(seconds=0)

    call_command("flush", interactive=False, verbosity=0)

    assert (Task.objects.count(), _jobs()) == (0, 0)
