"""The shop, an app that declares and implements tasks as any installed app may."""

from django.apps import AppConfig


class SampleConfig(AppConfig):
    name = "sample"
    jobs_settings = frozenset({"JOBS_THROTTLE_SUBSCRIPTIONS_PER_HOUR"})
