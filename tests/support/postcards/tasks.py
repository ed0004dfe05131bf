"""What the web may defer."""

from pgjobs.defer.bridge import declare


@declare(queue="post")
def send_postcard(to: str) -> None:
    """Send one."""
