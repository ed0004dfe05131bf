"""Known holes end `make lint`, a database of them that is away does not; the SBOM is whole."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from process_fixtures import free_port
from programs import PROJECT

HOLE = {
    "id": "PYSEC-2099-1",
    "summary": "a hole",
    "affected": [
        {
            "package": {"name": "django", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
    ],
}


@contextmanager
def _database(*, of: str) -> Iterator[str]:
    """Yield the URL of a database that knows one hole of one package."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(405)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"vulns": [HOLE]} if asked["package"]["name"] == of else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        server.server_close()


def _audit(url: str) -> str:
    output = StringIO()
    call_command("audit", osv_url=url, stdout=output)
    return output.getvalue()


def test_a_known_hole_is_named_and_fails() -> None:
    with _database(of="django") as url, pytest.raises(CommandError) as raised:
        _audit(url)

    assert re.search(r"django \d\S+: PYSEC-2099-1, mended in 99.1", str(raised.value))


def test_without_a_hole_it_says_how_many_it_looked_at() -> None:
    with _database(of="nothing") as url:
        said = _audit(url)

    assert int(re.findall(r"no known hole in (\d+) packages", said)[0]) > 50


def test_a_database_that_is_away_is_said_and_fails_nothing() -> None:
    assert "audit skipped" in _audit(f"http://127.0.0.1:{free_port()}/v1/query")


def test_the_sbom_lists_what_production_installs() -> None:
    make = ["make", "--no-print-directory", "-o", f"{sys.prefix}/.installed", "sbom"]
    subprocess.run([*make, f"VENV={sys.prefix}"], cwd=PROJECT, check=True)  # noqa: S603 # ours

    listed = json.loads((PROJECT / "var" / "sbom.cdx.json").read_text())["components"]
    locked = re.findall(
        r"^([\w.-]+)(?:\[.*\])?==(\S+)",
        (PROJECT / "requirements" / "base.txt").read_text(),
        re.MULTILINE,
    )
    assert {(part["name"], part["version"]) for part in listed} == set(locked)


DOCUMENTS = [
    path
    for path in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), PROJECT / "Makefile"]
    if "pip install" in path.read_text()
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_documented_install_is_held_to_hashes(path: Any) -> None:
    """Of this checkout, that is: other projects lock what they install themselves."""
    lines = [
        line for line in path.read_text().splitlines() if re.search(r"\bpip\b.* install\b", line)
    ]

    for line in lines:
        is_locked = re.search(r"--require-hashes( -r requirements/[\w-]+\.txt)+", line)
        is_ours = re.search(r"--no-deps --no-build-isolation -e \.", line)
        is_elsewhere = re.search(r"pip install \"?django-pgjobs\b", line)
        assert is_locked or is_ours or is_elsewhere, line
