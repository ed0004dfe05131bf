"""Every model of the API, each in the module of its room: Django looks for them here."""

from pgjobs.api.keys.models import Key
from pgjobs.api.throttles.models import Window
from pgjobs.api.tokens.models import Terms

__all__ = ["Key", "Terms", "Window"]
