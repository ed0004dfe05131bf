"""What the shop knows.

Without migrations: Django makes the table in each test database, and in no other. Of what is not in
this table, a letter's topics, Django's own tables hold what there is.
"""

import uuid

from django.db import models


class Parcel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=150, unique=True)
    email = models.EmailField()
    note = models.CharField(max_length=150, blank=True)
    is_sent = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name
