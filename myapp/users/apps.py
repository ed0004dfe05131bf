"""The example domain: users whose every change is a job."""

from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "myapp.users"
    label = "users"
