"""The steps of docs/from-celery.md, pasted into a project that `django-admin startproject` made."""

import re

import pytest
from fresh_projects import Project, asked, own_settings
from programs import PROJECT, eventually

pytestmark = [pytest.mark.long, pytest.mark.worker, pytest.mark.django_db(transaction=True)]

PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
TASKS, CALLS, VIEW, TESTS = PYTHON.findall((PROJECT / "docs" / "from-celery.md").read_text())
(WITHOUT_MIGRATIONS,) = (
    block
    for block in PYTHON.findall((PROJECT / "docs" / "testing.md").read_text())
    if "MIGRATION_MODULES" in block
)
APPS = 'INSTALLED_APPS += ["procrastinate.contrib.django", "pgjobs"]\n'
URLS = 'from orders.views import job\n\nurlpatterns += [path("jobs/<uuid:task_id>/", job)]\n'
ASK = """
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from orders.tasks import send_receipt
from pgjobs import owned_by

settings.ALLOWED_HOSTS = ["testserver"]
ada = User.objects.create_user("ada")
with owned_by(ada.pk):
    task_id = send_receipt.defer(order_id=10).task_id
for user in (ada, User.objects.create_user("bob")):
    client = Client()
    client.force_login(user)
    answer = client.get(f"/jobs/{task_id}/")
    print(answer.status_code, answer.content.decode() if user == ada else "")
"""
ENDED = """
SELECT task.result ->> 'order_id', task.progress FROM pgjobs_task AS task
WHERE task.task_name = 'send_receipt' AND task.end_status = 'DONE' ORDER BY 1
"""
WAITING = """
SELECT job.queue_name, job.priority, round(extract(epoch FROM scheduled_at - now()) / 3600)::int
FROM procrastinate_jobs AS job WHERE task_name = 'send_receipt' AND status = 'todo'
"""


def test_a_module_of_celery_s_moves_by_the_steps(project: Project, database: str) -> None:
    project.add("shop/settings.py", own_settings(database) + APPS)
    project.add("orders/tasks.py", TASKS)
    (project.root / "orders" / "views.py").write_text(VIEW)
    project.add("shop/urls.py", URLS)

    assert "no issues" in project.run("manage.py", "check")
    project.run("manage.py", "migrate", "-v0")
    project.run("manage.py", "shell", "-v0", "-c", CALLS)
    owner, other = project.run("manage.py", "shell", "-v0", "-c", ASK).splitlines()
    with project.running("manage.py", "jobs", "worker", "--queues=mail"):
        ended = eventually(lambda: len(rows := asked(database, ENDED)) == 4 and rows)

    assert owner == '200 {"status": "PENDING", "progress": 0, "result": null}'
    assert other.startswith("404")
    assert ended == [(str(order_id), 100) for order_id in (10, 7, 8, 9)]
    assert asked(database, WAITING) == [("mail", 5, 1)]


@pytest.mark.parametrize("lines", ["", WITHOUT_MIGRATIONS], ids=["migrated", "from models"])
def test_a_test_of_celery_s_moves_by_the_steps(project: Project, database: str, lines: str) -> None:
    project.add("shop/settings.py", own_settings(database) + APPS + lines)
    project.add("orders/tasks.py", TASKS)
    (project.root / "orders" / "tests.py").write_text(TESTS)

    project.run("manage.py", "test")
