"""Routes of the health probes."""

from django.urls import path

from pgjobs.observe import health

urlpatterns = [
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
]
