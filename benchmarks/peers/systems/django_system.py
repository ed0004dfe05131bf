"""What the Django-based peers share."""

import os

from benchmarks.environment import Servers
from benchmarks.system import System, recreate


class DjangoSystem(System):
    """A peer with a small Django project; `variables` are read by dj_settings."""

    apps = ""

    def variables(self):
        """Return what dj_settings reads."""
        return {}

    def environment(self, **more):
        """Return what a process of this peer is started with."""
        return {
            "DJANGO_SETTINGS_MODULE": "benchmarks.peers.systems.dj_settings",
            "PEERS_APPS": self.apps,
            "PEERS_DB": self.database or "postgres",
            "PEERS_PG_PORT": str(Servers.of_environment().pg_port),
            **self.variables(),
            **more,
        }

    def prepare(self):
        if not self.database:
            return
        recreate(self.template)
        self.set_up(PEERS_DB=self.template)
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        self.close()

    def connect(self):
        self.set_up()

    def fresh(self, backlog=""):
        self.close()
        super().fresh(backlog)

    def set_up(self, **more):
        """Set Django up in this process."""
        os.environ.update(self.environment(**more))
        import django

        django.setup()

    def close(self):
        """Close the connection, which would hold up the making of a database."""
        from django.db import connection

        connection.close()
