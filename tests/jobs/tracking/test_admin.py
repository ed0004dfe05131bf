"""The library's own admin of jobs is closed: it shows all arguments."""

from django.contrib import admin
from procrastinate.contrib.django.models import ProcrastinateJob


def test_the_librarys_job_pages_are_not_there() -> None:
    assert not admin.site.is_registered(ProcrastinateJob)
