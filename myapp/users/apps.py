"""The example domain: users whose every change is a job."""

from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "myapp.users"
    label = "users"
    # Settings of this app that begin with JOBS_: the library's check accepts them.
    jobs_settings = frozenset(
        {
            "JOBS_ACTIVATION_LINK_HOURS",
            "JOBS_THROTTLE_SIGNUP_PER_HOUR",
            "JOBS_UNACTIVATED_DAYS",
        }
    )
