"""Fixtures of tests that say what the tasks of a worker do."""

import gc
from collections.abc import Iterator
from typing import Any

import atomic_samples
import pytest
from atomic_samples import deeds
from procrastinate import PsycopgConnector
from procrastinate.contrib.django.utils import connector_params

from pgjobs.worker.app import JobsApp


@pytest.fixture
def worker_app(transactional_db: None, settings: Any) -> Iterator[JobsApp]:
    """The app whose tasks do what the test says, connected to the test database."""
    settings.JOBS_WORKER_HEARTBEAT_SECONDS = 0.5
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
    deeds.clear()
    atomic_samples.app.job_manager.counts.clear()
    with atomic_samples.app.replace_connector(connector):
        yield atomic_samples.app


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Keep the collector away: it swallows what is thrown into a thread amid its callbacks."""
    gc.disable()
    yield
    gc.enable()
