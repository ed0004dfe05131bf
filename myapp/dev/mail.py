"""Mails of development: one file each, in var/mail/, with links that can be copied."""

import email.policy

from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend

# Django's own writes mails as they go over the wire: there a line longer than 78 characters, such
# as one with a link, is broken up and its "=" are escaped.
_WHOLE_LINES = email.policy.default.clone(max_line_length=998)


class ReadableFileBackend(EmailBackend):
    """Django's file backend, whose files show the text as the reader of the mail sees it."""

    def write_message(self, message: EmailMessage) -> None:
        """Write one mail to the open file."""
        self.stream.write(message.message(policy=_WHOLE_LINES).as_bytes() + b"\n")  # type: ignore[arg-type] # opened for bytes
