"""Which limits there are on how often one may ask, those of the project's apps included."""

from django.conf import settings

NAMES = [name for name in dir(settings) if name.startswith("JOBS_THROTTLE_")]
# For a program: no limit at all.
SWITCHED_OFF = dict.fromkeys(NAMES, "0")
