"""What the web may defer."""

from pgjobs import declare


@declare(queue="post")
def send_letter(to: str) -> None:
    """Send one."""
