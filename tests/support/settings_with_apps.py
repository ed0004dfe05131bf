"""The project's settings with two reusable apps installed, and nothing else said about them."""

from sample.settings import *  # noqa: F403
from sample.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "postcards", "letters"]
