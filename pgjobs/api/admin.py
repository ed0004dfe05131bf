"""Every page of the API in the admin: Django looks for them here."""

from pgjobs.api.tokens.admin import TokenAdmin

__all__ = ["TokenAdmin"]
