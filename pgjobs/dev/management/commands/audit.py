"""`manage.py audit`: known holes in what requirements/dev.txt names; base.txt is a part of it."""

import json
import subprocess  # nosec B404 # of ours
import sys
import urllib.error
import urllib.request
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

# Of the Open Source Vulnerabilities database, which PyPA's advisories are in.
OSV_URL = "https://api.osv.dev/v1/query"
PROBE_SECONDS = 5
AUDIT_SECONDS = 300


class Command(BaseCommand):
    """Fails if there are holes; says so and succeeds where their database cannot be reached."""

    help = "Look for known holes in what requirements/dev.txt names."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--osv-url", default=OSV_URL, help="another mirror of the database")

    def handle(self, *args: Any, osv_url: str, **options: Any) -> None:
        if reason := _unreachable(osv_url):
            self.stdout.write(f"audit skipped: {osv_url} cannot be reached ({reason})")
            return
        packages = _audited(osv_url)
        holes = [
            f"  {package['name']} {package['version']}: {hole['id']}, mended in"
            f" {', '.join(hole['fix_versions']) or 'no version yet'}"
            for package in packages
            for hole in package.get("vulns", ())
        ]
        if holes:
            raise CommandError("\n".join(["Known holes:", *holes]))
        self.stdout.write(f"audit: no known hole in {len(packages)} packages")


def _unreachable(url: str) -> str:
    """Return why the database does not answer, "" if it does, whatever it says."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS):  # noqa: S310 # nosec B310
            return ""
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return str(getattr(error, "reason", error))


def _audited(osv_url: str) -> list[dict[str, Any]]:
    """Return each package with its holes, as pip-audit does.

    Raises:
        CommandError: it could not say.
    """
    requirements = settings.BASE_DIR / "requirements" / "dev.txt"
    command = [
        *(sys.executable, "-m", "pip_audit", "-r", str(requirements)),
        *("-s", "osv", "--osv-url", osv_url),
        *("--disable-pip", "--require-hashes", "--format=json", "--progress-spinner=off"),
    ]
    ended = subprocess.run(  # noqa: S603 # nosec B603
        command, capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False
    )
    try:
        packages: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except ValueError:
        raise CommandError(f"pip-audit failed:\n{ended.stderr}") from None
    return packages
