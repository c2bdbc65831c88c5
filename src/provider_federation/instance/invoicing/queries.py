"""Reading what is billable, invoices, and the feed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from django.db.models import Q, QuerySet

from provider_federation.instance.invoicing.feed import feed
from provider_federation.instance.invoicing.models import (
    Change,
    FeedEntry,
    Invoice,
    InvoiceLine,
    InvoiceStatus,
)
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.leads.queries import chargeable_leads
from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.kit.problem import Problem, not_found
from provider_federation.money import Period

Entry = TypeVar("Entry", bound=FeedEntry)


def billable_leads(window: Period) -> QuerySet[Lead]:
    """Converted in the window, chargeable, and on no live invoice; newest first."""
    leads = chargeable_leads().filter(
        converted_at__gte=window.start, converted_at__lt=window.end, reservation__isnull=True
    )
    return leads.select_related("customer").order_by("-converted_at", "-id")


def drafts_of_window(window: Period) -> list[Invoice]:
    """Drafts that hold a lead converted in the window; newest first."""
    drafts = Invoice.objects.filter(
        status=InvoiceStatus.DRAFT,
        lines__reservation__isnull=False,
        lines__converted_at__gte=window.start,
        lines__converted_at__lt=window.end,
    )
    return list(drafts.distinct().select_related("customer").order_by("-created_at", "-id"))


def get_invoice(invoice_id: int) -> Invoice:
    """One invoice with its customer and lines; 404 `not_found`."""
    invoice = (
        Invoice.objects.select_related("customer")
        .prefetch_related("lines__lead")
        .filter(pk=invoice_id)
        .first()
    )
    if invoice is None:
        raise not_found("invoice")
    return invoice


def list_invoices(
    *,
    status: str | None = None,
    updated_since: datetime | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[Invoice], str | None]:
    """A page of invoices, newest first, and the cursor of the next page or None."""
    rows = Invoice.objects.select_related("customer").order_by("-created_at", "-id")
    if status is not None:
        rows = rows.filter(status=status)
    if updated_since is not None:
        rows = rows.filter(updated_at__gte=updated_since)
    if cursor is not None:
        at, last_id = read_time_cursor(cursor)
        rows = rows.filter(Q(created_at__lt=at) | Q(created_at=at, id__lt=last_id))
    page = list(rows[: limit + 1])
    following = time_cursor(page[limit - 1].created_at, page[limit - 1].pk) if len(page) > limit else None
    return page[:limit], following


def time_cursor(at: datetime, row_id: int) -> str:
    return encode_cursor(at.astimezone(UTC).isoformat(), row_id)


def read_time_cursor(cursor: str) -> tuple[datetime, int]:
    """The sort key of a newest-first list; 400 `bad_cursor`."""
    at, row_id = decode_cursor(cursor, (str, int))
    try:
        moment = datetime.fromisoformat(str(at))
        if moment.tzinfo is not None:
            return moment.astimezone(UTC), int(row_id)
    except (ValueError, OverflowError):
        pass  # told below, like an instant without an offset
    raise Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.")


def changes_after(cursor: str | None, limit: int) -> tuple[str, list[Change], str, bool]:
    """The feed of invoices, as `feed_page` gives it."""
    return feed_page(Change.objects.select_related("invoice__customer"), cursor, limit)


def feed_page(entries: QuerySet[Entry], cursor: str | None, limit: int) -> tuple[str, list[Entry], str, bool]:
    """`(epoch, entries, next cursor, has more)` in the order of commits, of a feed whose entries have a `seq` and
    a `mark`; 409 `cursor_unknown` for another history's cursor.
    """
    epoch = feed().epoch
    after, mark = _read_feed_cursor(entries, cursor, epoch)
    page = list(entries.filter(seq__gt=after).order_by("seq")[: limit + 1])
    shown = page[:limit]
    if shown:
        after, mark = shown[-1].seq, shown[-1].mark
    return epoch, shown, encode_cursor(epoch, after, mark), len(page) > limit


def _read_feed_cursor(entries: QuerySet[Entry], cursor: str | None, epoch: str) -> tuple[int, str]:
    if cursor is None:
        return 0, ""
    of_epoch, seq, mark = decode_cursor(cursor, (str, int, str))
    known = of_epoch == epoch and (
        (seq == 0 and mark == "") or entries.filter(seq=seq, mark=str(mark)).exists()
    )
    if not known:
        raise Problem(
            409,
            "cursor_unknown",
            "This cursor belongs to another history of this instance; start over without one.",
        )
    return int(seq), str(mark)


def count_lines(invoices: Sequence[Invoice]) -> int:
    """How many lines these invoices have together."""
    return InvoiceLine.objects.filter(invoice__in=[invoice.pk for invoice in invoices]).count()
