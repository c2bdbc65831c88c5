"""How amounts, times and states look."""

from __future__ import annotations

from datetime import UTC, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from provider_federation.instance.pages.figures import Sums
from provider_federation.instance.pages.listing import Listing
from provider_federation.instance.wire import iso
from provider_federation.money import format_amount

register = template.Library()

_TONES = {
    "paid": "good", "converted": "good", "owner": "info", "applied": "good",
    "open": "info", "contacted": "info", "billing": "info",
    "draft": "plain", "new": "plain", "viewer": "plain", "void": "plain", "lost": "plain",
    "uncollectible": "bad", "pending": "warn", "parked": "bad", "ignored": "plain", "inactive": "plain",
    "filed": "warn", "accepted": "good", "rejected": "bad", "not_billed": "plain",
}  # fmt: skip
_REASONS = {
    "stripe_unavailable": "Stripe did not answer.",
    "resource_missing": "Stripe does not have the object.",
}


@register.simple_tag
def money(cents: int | None, currency: str) -> str:
    """`$1,234.56`; a dash for no amount."""
    return "—" if cents is None else format_amount(cents, currency)


@register.filter
def amounts(sums: Sums) -> str:
    """Every currency by itself: `$1,200.00 + €30.00`."""
    return " + ".join(format_amount(cents, currency) for currency, cents in sums.amounts) or "$0.00"


@register.filter
def instant(at: datetime | None) -> str:
    """`2026-02-03 04:05 UTC`, machine-readable as well."""
    if at is None:
        return "—"
    return format_html('<time datetime="{}">{} UTC</time>', iso(at), f"{at.astimezone(UTC):%Y-%m-%d %H:%M}")


@register.filter
def reason(code: str) -> str:
    """Why an event could not be applied, from the code that the service wrote down."""
    words = code.replace("_", " ")
    return _REASONS.get(code) or words[:1].upper() + words[1:]


@register.filter
def badge(state: str) -> SafeString:
    return format_html(
        '<span class="badge badge-{}">{}</span>',
        _TONES.get(state, "plain"),
        state.replace("_", " ").capitalize(),
    )


@register.simple_tag
def sort_head(listing: Listing, column: str, title: str, kind: str = "") -> SafeString:
    """A column's head; its link sorts by it, the second click the other way round."""
    now = listing.sort.removeprefix("-") == column
    descending = now and listing.sort.startswith("-")
    address = listing.address(sort=column if descending else f"-{column}", page=None)
    state = ("descending" if descending else "ascending") if now else "none"
    arrow = ("↓" if descending else "↑") if now else ""
    return format_html(
        '<th scope="col" class="{}" aria-sort="{}"><a href="{}">{} <span aria-hidden="true">{}</span></a></th>',
        kind, state, address, title, arrow,
    )  # fmt: skip


@register.filter
def may(person: object, permission: str) -> bool:
    """`user|may:"billing.manage"`."""
    check = getattr(person, "may", None)
    return bool(check is not None and check(permission))
