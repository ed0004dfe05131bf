"""The room of the pages."""

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "myapp.pages"
    label = "dashboard"
