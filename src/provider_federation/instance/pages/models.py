"""What the pages keep for themselves: failed sign-ins, counted in the database because several processes serve."""

from __future__ import annotations

from django.db import models


class SignInTries(models.Model):
    """How often one subject failed since `since`. `subject` is a digest: nobody's typing is kept here."""

    subject = models.CharField(max_length=64, primary_key=True)
    tries = models.PositiveIntegerField(default=0)
    since = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.subject[:8]} {self.tries}"
