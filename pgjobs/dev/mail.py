"""Mails of development: one file each, in var/mail/, with links that can be copied."""

import email.policy
from pathlib import Path
from typing import Any

import django
from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend

# Since Django 6.0 its own writes mails as they go over the wire: there a line longer than 78
# characters, such as one with a link, is broken up and its "=" are escaped.
_WHOLE_LINES: dict[str, Any] = (
    {"policy": email.policy.default.clone(max_line_length=998)} if django.VERSION >= (6,) else {}
)


class ReadableFileBackend(EmailBackend):
    """Django's file backend, whose files show the text as the reader of the mail sees it.

    A mail has links that let in whoever follows them: nobody but our user reads the directory.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        Path(self.file_path).chmod(0o700)

    def write_message(self, message: EmailMessage) -> None:
        """Write one mail to the open file."""
        self.stream.write(message.message(**_WHOLE_LINES).as_bytes() + b"\n")  # type: ignore[arg-type] # opened for bytes
