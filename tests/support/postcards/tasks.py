"""What the web may defer."""

from pgjobs import declare


@declare(queue="post")
def send_postcard(to: str) -> None:
    """Send one."""
