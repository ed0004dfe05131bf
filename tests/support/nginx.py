"""An nginx in front of a web server, by the documented snippet."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from process_fixtures import free_port
from programs import PROJECT, eventually, is_open

PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SNIPPET = PROJECT / "docs" / "snippets" / "nginx.conf"
AROUND = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


@contextmanager
def in_front_of(url: str, *, folder: Path, deadline: str = "10s") -> Iterator[str]:
    """Yield the URL of an nginx before the web server at `url`; clients have `deadline` to send.

    Without TLS, which is nginx' own; all else is as documented.
    """
    if PROGRAM is None:
        pytest.skip("nginx is not installed (Debian's package nginx-light)")
    port = free_port()
    file, log = folder / "nginx.conf", folder / "nginx.log"
    server = _without_tls(SNIPPET.read_text(), port).replace("127.0.0.1:8000", urlsplit(url).netloc)
    server = re.sub(r"(client_\w+_timeout) 10s", rf"\1 {deadline}", server)
    file.write_text(AROUND.format(folder=folder, server=server))
    with log.open("w") as output:
        command = [PROGRAM, "-p", str(folder), "-c", str(file)]
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 # ours
    try:
        eventually(lambda: process.poll() is not None or is_open(port))
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _without_tls(snippet: str, port: int) -> str:
    server = re.sub(r" *ssl_\w+ .*\n", "", snippet)
    assert server != snippet
    return server.replace("listen 443 ssl", f"listen 127.0.0.1:{port}")
