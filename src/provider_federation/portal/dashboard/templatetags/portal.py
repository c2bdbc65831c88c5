"""Words and figures of the pages: amounts, moments, statuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from provider_federation.kit import clock
from provider_federation.money import PLANS, MoneyError, format_amount
from provider_federation.money.period import month_name

register = template.Library()

# How a status looks, over every feature: the same word never means two colours.
_TONES = {
    "good": (
        "ok",
        "paid",
        "active",
        "done",
        "applied",
        "issued",
        "succeeded",
        "accepted",
        "answered",
        "healthy",
        "fits",
        "billed",
    ),
    "info": (
        "open",
        "running",
        "trialing",
        "sent",
        "planned",
        "planning",
        "approved",
        "executing",
        "ready",
        "placing",
        "creating",
        "queued",
        "pending",
    ),
    "warn": (
        "held",
        "past_due",
        "incomplete",
        "parked",
        "stale",
        "claimed",
        "cancelling",
        "paused",
        "unpaid",
        "timed_out",
    ),
    "bad": (
        "failed",
        "rejected",
        "uncollectible",
        "unreachable",
        "refused",
        "bad_answer",
        "error",
        "internal",
    ),
}
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words}
_WORDS = {
    "ok": "done",
    "past_due": "past due",
    "bad_answer": "bad answer",
    "timed_out": "timed out",
    "incomplete_expired": "expired before payment",
    "canceled": "cancelled",
    "placing": "being placed",
    "planning": "being planned",
    "executing": "being billed",
    "ready": "ready to bill",
    "nothing": "nothing to bill",
    "already": "invoiced already",
}
_CODES = {
    "usage_jump": "a jump in usage",
    "absurd_usage": "usage far too high",
    "negative_usage": "negative usage",
    "instance_unavailable": "no answer from the instance",
    "instance_bad_answer": "an unusable answer",
    "evidence_mismatch": "evidence that does not fit",
    "counter_backwards": "a counter that ran backwards",
    "count_mismatch": "a count that does not fit its leads",
    "invoice_held": "its invoice is held",
    "invoice_void": "its invoice was voided",
    "lead_already_charged": "a lead billed already",
    "no_lead_price": "no price for a lead",
    "internal_error": "a fault of the portal",
    "event_parked": "event parked",
    "total_differs": "totals differ",
    "dunning_escalated": "reminders used up",
}
_STEPS = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (30 * 86_400, 86_400, "d"))


@register.filter
def money(cents: int | None, currency: str) -> str:
    """`12345|money:"usd"` is "$123.45"; nothing is a dash; a currency we don't know shows its minor units."""
    if cents is None:
        return "—"
    try:
        return format_amount(cents, currency)
    except MoneyError:
        return f"{cents} {currency.upper()} (minor units)"


@register.filter
def badge(status: str, words: str = "") -> SafeString:
    """A coloured badge for a status of any feature."""
    tone = _TONE_OF.get(status, "")
    text = words or _WORDS.get(status, status.replace("_", " "))
    return format_html(
        '<span class="pf-badge{}">{}</span>',
        f" pf-badge--{tone}" if tone else "",
        text[:1].upper() + text[1:],
    )


@register.filter
def spoken(code: str) -> str:
    """A reason, or a name in code, as a person says it: `usage_jump` is "a jump in usage", `aiCredits` is
    "ai credits".
    """
    apart = "".join(f" {one.lower()}" if one.isupper() else one for one in code)
    return _CODES.get(code) or apart.replace("_", " ").strip()


@register.filter
def told(kind: str) -> str:
    """What happened, of the audit log: `receivables.refund_asked` is "Receivables: refund asked"."""
    room, _, event = kind.partition(".")
    return f"{spoken(room).capitalize()}: {spoken(event)}" if event else spoken(room).capitalize()


@register.filter
def plan(code: str) -> str:
    """A plan as the price list names it: `ELITE` is "Elite"; one that is no plan of ours stays as it is."""
    return PLANS[code].name if code in PLANS else code or "—"


@register.filter
def step(name: str) -> str:
    """A step of the reminders as a person says it: `day -3` is "3 days before it is due"."""
    days = int(name.removeprefix("day "))
    if days == 0:
        return "on the day it is due"
    many = f"{abs(days)} day{'' if abs(days) == 1 else 's'}"
    return f"{many} before it is due" if days < 0 else f"{many} after it was due"


@register.filter
def who(actor: str) -> str:
    """`operator:ada@provider.example` is the address alone; of everybody else the kind is told too."""
    kind, _, name = actor.partition(":")
    return name if kind == "operator" else actor.replace(":", " ", 1)


@register.filter
def about(subject: str) -> str:
    """`usage_invoice:7c…` is "usage invoice 7c…"."""
    kind, _, name = subject.partition(":")
    return f"{kind.replace('_', ' ')} {name}".strip()


@register.filter
def ago(at: datetime | str | None) -> SafeString | str:
    """`3 min ago`, with the exact instant (UTC) on hover and for screen readers; nothing is `never`."""
    if not isinstance(at, datetime):  # a template hands over "" for what is not there
        return "never"
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        at.isoformat(),
        f"{at:%Y-%m-%d %H:%M:%S}",
        _distance(at),
    )


@register.filter
def instant(at: datetime | str | None) -> SafeString | str:
    """`2026-02-03 14:05 UTC`, or a dash."""
    if not isinstance(at, datetime):  # a template hands over "" for what is not there
        return "—"
    return format_html(
        '<time class="pf-number" datetime="{}">{} UTC</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M}"
    )


@register.filter
def stated(text: str) -> SafeString | str:
    """An instant that came as text, as `instant` shows it; the very text, which evidence is made over, on hover."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    shown = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return format_html('<time class="pf-number" datetime="{}" title="{}">{} UTC</time>', text, text, shown)


@register.filter
def facts(evidence: Mapping[str, Any], currency: str = "") -> list[tuple[str, str]]:
    """Named values as (name, words): `…Cents` is an amount where the currency is known, `cost` exact in its
    major units, `markup` a share. The currency may be one of the values.
    """
    currency = currency or str(evidence.get("currency", ""))
    return [_fact(name, value, currency) for name, value in evidence.items()]


def _fact(name: str, value: Any, currency: str) -> tuple[str, str]:
    cents = bool(currency) and name.endswith(("Cents", "_cents"))
    told = spoken(name[:-5].rstrip("_") if cents else name)
    told = told[:1].upper() + told[1:]
    if value is None:
        return told, "—"
    if cents:
        return told, money(int(value), currency)
    if name == "cost":
        return told, f"{value} {currency.upper()}".strip()
    return told, f"{(Decimal(value) * 100).normalize():f} %" if name == "markup" else str(value)


@register.filter
def month(label: str) -> str:
    """`2026-11` is "November 2026"; any other text stays as it is."""
    return month_name(label)


@register.filter
def day(at: datetime | str | None) -> str:
    """`3 Feb 2026` (UTC), or a dash."""
    return f"{at.day} {at:%b %Y}" if isinstance(at, datetime) else "—"


@register.filter
def get(mapping: Any, key: Any) -> Any:
    """`mapping|get:key`, None when it is not there."""
    return mapping.get(key) if hasattr(mapping, "get") else None


@register.filter
def heading(number: int, headings: Sequence[str]) -> str:
    """The heading of a column by its number, for tables that are stacked on a phone."""
    return headings[number]


def _distance(at: datetime) -> str:
    seconds = int((clock.now() - at).total_seconds())
    before = seconds >= 0
    seconds = abs(seconds)
    if seconds < 5:
        return "now"
    for limit, unit, name in _STEPS:
        if seconds < limit:
            text = f"{seconds // unit} {name}"
            return f"{text} ago" if before else f"in {text}"
    return f"{at.day} {at:%b %Y}"
