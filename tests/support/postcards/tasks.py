"""What the web may defer."""

from myapp.jobs.bridge import declare


@declare(queue="post")
def send_postcard(to: str) -> None:
    """Send one."""
