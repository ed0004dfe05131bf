"""Whatever a project's user model: its owners hold, in a fresh project."""

from pathlib import Path

import pytest
from fresh_projects import Project, asked, database_entry, made_project
from programs import eventually

pytestmark = [pytest.mark.long, pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SETTINGS = """
INSTALLED_APPS += ["procrastinate.contrib.django", "pgjobs", "orders"]
INSTALLED_APPS += ["rest_framework", "knox", "drf_spectacular", "pgjobs.api"]
ALLOWED_HOSTS = ["testserver"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
OURS = "pgjobs.api.tokens.authentication.TokenAuthentication"
HANDLER = "pgjobs.api.throttles.refusals.exception_handler"
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": [OURS], "EXCEPTION_HANDLER": HANDLER}
"""
TASKS = """
from pgjobs import TaskContext, task


@task()
def whose(context: TaskContext, *, number: int) -> dict[str, object]:
    from django.contrib.auth import get_user_model

    users = get_user_model()._base_manager
    is_known = users.filter(pk=context.owner_id).exists()
    return {"owner": str(context.owner_id), "is_known": is_known}
"""
URLS = """
from django.urls import include
from rest_framework.views import APIView

from orders.tasks import whose
from pgjobs.api.door.door import deferring


class Whose(APIView):
    post = deferring(whose, message="Asked")


class Guarded(APIView):
    post = deferring(whose, message="Asked", permission="pgjobs.change_task", bulk=True)


urlpatterns += [
    path("api/", include("pgjobs.api.urls")),
    path("api/whose/", Whose.as_view()),
    path("api/guarded/", Guarded.as_view()),
]
"""

# --- User models. Each tells of three users how they sign in, and what makes them.

USUAL = """
from uuid import uuid4
from django.contrib.auth.models import AbstractUser
from django.db import models

PEOPLE = [{"name": name, "fields": {"username": name}} for name in ("ada", "bob", "eve")]
"""
# Some libraries give -1 to a user who stands for nobody.
INTEGER = (
    USUAL
    + """
class Person(AbstractUser):
    id = models.AutoField(primary_key=True)
PEOPLE[0]["fields"]["id"], PEOPLE[1]["fields"]["id"] = -1, 2**31 - 1
"""
)
UUID = (
    USUAL
    + """
class Base(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid4)
class Person(Base):
    class Meta:
        proxy = True
"""
)
# Longer than what our tables have for names of callers.
TEXT = (
    USUAL
    + """
class Person(AbstractUser):
    slug = models.SlugField(primary_key=True, max_length=200)
for person in PEOPLE:
    person["fields"]["slug"] = f"{'a-long-name-' * 14}{person['name']}"
"""
)
CHILD = (
    USUAL
    + """
class Base(AbstractUser):
    id = models.BigAutoField(primary_key=True)
class Person(Base):
    shoe_size = models.IntegerField(default=38)
PEOPLE[0]["fields"]["id"], PEOPLE[1]["fields"]["id"] = 2**53 + 1, 2**63 - 1
"""
)
BY_EMAIL = """
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models

PEOPLE = [
    {"name": email, "fields": {"email": email}}
    for email in ("ada@example.org", f"{'bob' * 60}@example.org", "eve's@example.org")
]
class People(BaseUserManager):
    def create_user(self, password, **fields):
        user = self.model(**fields)
        user.set_password(password)
        user.save()
        return user
"""
EMAIL = (
    BY_EMAIL
    + """
class Person(AbstractBaseUser, PermissionsMixin):
    email = models.EmailField(primary_key=True)
    is_admin = models.BooleanField(default=False)
    is_active = models.BooleanField(null=True, default=True)
    USERNAME_FIELD = EMAIL_FIELD = "email"
    objects = People()
    @property
    def is_staff(self):
        return self.is_admin
    @is_staff.setter
    def is_staff(self, value):
        self.is_admin = value
"""
)
MINIMAL = (
    BY_EMAIL
    + """
class Person(AbstractBaseUser):
    number = models.SmallAutoField(primary_key=True)
    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"
    objects = People()
"""
)
MODELS = {
    "integer": INTEGER,
    "uuid_proxy": UUID,
    "text": TEXT,
    "minimal": MINIMAL,
    "email": EMAIL,
    "big_child": CHILD,
}
OPEN = "SELECT FROM pgjobs_task WHERE end_status IS NULL AND task_name = 'whose'"


@pytest.fixture(scope="module")
def root(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project with an app, and settings, for each user model."""
    made = made_project(tmp_path_factory.mktemp("users") / "shop", library)
    made.add("shop/settings.py", SETTINGS)
    made.add("shop/urls.py", URLS)
    (made.root / "orders" / "tasks.py").write_text(TASKS)
    made.expect("user_model_visit.py")
    for name, model in MODELS.items():
        (made.root / f"people_{name}" / "migrations").mkdir(parents=True)
        (made.root / f"people_{name}" / "migrations" / "__init__.py").touch()
        (made.root / f"people_{name}" / "models.py").write_text(model)
    return made.root


@pytest.mark.parametrize("name", MODELS)
def test_owners_of_any_key_hold(root: Path, library: Path, database: str, name: str) -> None:
    project = Project(root, library, settings=f"shop.settings_{name}")
    project.add(
        f"shop/settings_{name}.py",
        f"from shop.settings import *\n"
        f"DATABASES = {{'default': {database_entry(database)!r}}}\n"
        f"INSTALLED_APPS += ['people_{name}']\n"
        f"AUTH_USER_MODEL = 'people_{name}.Person'\n",
    )

    before = project.visit("before")
    with project.running("manage.py", "jobs", "worker"):
        eventually(lambda: not asked(database, OPEN))
    failed = before | project.visit("after")

    assert not failed, "\n".join(f"{step}: {said}" for step, said in failed.items())
