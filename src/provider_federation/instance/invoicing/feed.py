"""The changes feed: one entry for every visible change of an invoice, numbered in the order of commits."""

from __future__ import annotations

import secrets

from django.db import transaction

from provider_federation.instance.invoicing.models import Change, Feed, Invoice
from provider_federation.kit import clock

CREATED = "invoice.created"
UPDATED = "invoice.updated"


def feed() -> Feed:
    """The feed's row, made with a fresh epoch when the database is new."""
    row, _made = Feed.objects.get_or_create(pk=1, defaults={"epoch": secrets.token_hex(8)})
    return row


def record_change(kind: str, *invoices: Invoice) -> None:
    """Append entries. Call inside the transaction of the change, last: the feed's row stays locked until the
    commit.

    That lock is what makes the order true: a later number is never visible before an earlier one.
    """
    with transaction.atomic():
        row = hold_feed()
        now = clock.now()
        first = row.last_seq + 1
        Change.objects.bulk_create(
            Change(seq=seq, mark=new_mark(), kind=kind, at=now, invoice=invoice)
            for seq, invoice in enumerate(invoices, start=first)
        )
        row.last_seq += len(invoices)
        row.save(update_fields=["last_seq"])


def hold_feed() -> Feed:
    """The feed's row, locked until the caller's transaction ends: whoever appends takes turns."""
    feed()
    return Feed.objects.select_for_update().get(pk=1)


def new_mark() -> str:
    """What tells an entry from one that another history had in its place."""
    return secrets.token_hex(4)
