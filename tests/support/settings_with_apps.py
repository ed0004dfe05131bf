"""The project's settings with two reusable apps installed, and nothing else said about them."""

from myproj.settings import *  # noqa: F403
from myproj.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "postcards", "letters"]
