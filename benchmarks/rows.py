"""The row that tasks write or read by Django's ORM; ours and the Django-based peers'."""

from typing import ClassVar

from django.db import models
from django.utils import timezone


class Row(models.Model):
    """A row of `bench_row`, which `system.recreate` makes."""

    seq = models.BigIntegerField()
    note = models.TextField()
    made_at = models.DateTimeField()

    objects: ClassVar[models.Manager["Row"]] = models.Manager()

    class Meta:
        app_label = "benchmarks"
        managed = False
        db_table = "bench_row"

    def __str__(self) -> str:
        return f"{self.seq}: {self.note}"


def insert_row(seq: int) -> None:
    """Insert one row."""
    Row.objects.create(seq=seq, note="done", made_at=timezone.now())


def read_row(seq: int) -> None:
    """Ask for one row."""
    Row.objects.filter(seq=seq).first()
