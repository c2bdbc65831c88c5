"""What a client's AI usage costs: the cap a month and the markup on its cost, by whole months (money rule 6).

A month that has begun keeps its terms; new ones hold from a later month on. Every word is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import MoneyError, Period
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.directory.services import edit_instance
from provider_federation.portal.subscriptions.models import CapChange
from provider_federation.portal.subscriptions.queries import ai_terms_for, standing_ai_terms

MOST_MARKUP = Decimal(1)
"""A hundred percent on top of the cost: more is taken for a slip of the finger."""
MARKUP_PLACES = 4
MOST_CAP = 99_999_999
"""What one invoice can hold, in minor units."""
_MONTHS_AHEAD = 24
_SHOWN = 100


@dataclass(frozen=True)
class AiTerms:
    """Terms of one client: the cap in minor units of its currency, the markup as a fraction of the cost."""

    cap_cents: int
    markup: Decimal

    @property
    def percent(self) -> str:
        """The markup as people say it: `12.5`."""
        return plain_markup(self.markup * 100)


@dataclass(frozen=True)
class TermsRow:
    """One entry of the history: it priced, or will price, the months from `month` on, unless `superseded`."""

    change: CapChange
    month: Period
    superseded: bool

    @property
    def terms(self) -> AiTerms:
        return AiTerms(self.change.cap_cents, self.change.markup)


@dataclass(frozen=True)
class TermsView:
    """The terms of the running month, those that wait for theirs, and every word so far, newest first."""

    month: Period
    in_force: AiTerms
    upcoming: list[TermsRow]
    history: list[TermsRow]


@dataclass(frozen=True)
class TermsSet:
    """`reused` is True when these terms held already, or were to hold by then."""

    row: TermsRow
    reused: bool


def set_ai_terms(
    instance: Instance, wanted: AiTerms, *, first_month: str | None = None, actor: str
) -> TermsSet:
    """From `first_month` (`YYYY-MM`, default the next month) on the client's AI usage is priced by these
    terms. Terms that were to begin then or later give way to them. Repeating it changes nothing.

    Problem 400 `bad_date` / `invalid_field`, 409 `month_begun` for a month that runs or is over.
    """
    month = _asked_month(first_month)
    _check(wanted)
    with transaction.atomic():
        locked = Instance.objects.select_for_update().get(pk=instance.pk)
        note_cap(locked)  # what held so far stays what the months before are priced by
        newest = _newest(locked)
        last = _row(newest) if newest else None
        if last and last.terms == wanted and last.change.effective_at <= month.start:
            return TermsSet(last, reused=True)
        made = CapChange.objects.create(
            instance=locked,
            cap_cents=wanted.cap_cents,
            markup=wanted.markup,
            effective_at=month.start,
            set_by=actor,
            recorded_at=clock.now(),
        )
        _tell(locked, newest, made, month, actor)
        edit_instance(locked.pk, locked.version, actor=actor, ai_cap_cents=wanted.cap_cents)
    return TermsSet(_row(made), reused=False)


def view_ai_terms(instance: Instance) -> TermsView:
    """See `TermsView`; the last hundred words."""
    month = _month_of(clock.now())
    standing = [change.pk for change in standing_ai_terms(instance)]
    rows = [
        _row(change, superseded=change.pk not in standing, first=change.pk == standing[0])
        for change in CapChange.objects.filter(instance=instance).order_by("-id")[:_SHOWN]
    ]
    upcoming = [row for row in rows if not row.superseded and row.month.start > month.start]
    in_force = AiTerms(*ai_terms_for(instance, month.start, month.end))
    return TermsView(month, in_force, sorted(upcoming, key=lambda row: row.month.start), rows)


def note_cap(instance: Instance) -> None:
    """Keep the history when the cap was edited with the client: a row when it is not what the last one says."""
    last = _newest(instance)
    if last is None or last.cap_cents != instance.ai_cap_cents:
        now = clock.now()
        CapChange.objects.create(
            instance=instance,
            cap_cents=instance.ai_cap_cents,
            markup=last.markup if last else Decimal(0),
            effective_at=now,
            recorded_at=now,
        )


def plain_markup(markup: Decimal) -> str:
    """As it is written on the wire: `0.1`, without the column's trailing zeros."""
    return format(markup.normalize(), "f")


def _newest(instance: Instance) -> CapChange | None:
    return CapChange.objects.filter(instance=instance).order_by("-id").first()


def _row(change: CapChange, *, superseded: bool = False, first: bool = False) -> TermsRow:
    """A month that had begun keeps its terms, unless there were none before: the `first` ever price it too."""
    month = _month_of(change.effective_at)
    begins = month if first or month.start == change.effective_at else month.next()
    return TermsRow(change, begins, superseded)


def _month_of(at: datetime) -> Period:
    return Period.month_of(at, settings.PROVIDER_TIME_ZONE)


def _asked_month(label: str | None) -> Period:
    following = _month_of(clock.now()).next()
    if label is None:
        return following
    try:
        month = Period.month(label, settings.PROVIDER_TIME_ZONE)
    except MoneyError as error:
        raise Problem(400, error.code, error.message, field="from") from None
    if month.start < following.start:
        sentence = f"{label} has begun; new terms hold from {following.label} at the earliest."
        raise Problem(409, "month_begun", sentence, field="from")
    if month.start > _later(following, _MONTHS_AHEAD).start:
        sentence = f"from: at most {_MONTHS_AHEAD} months ahead."
        raise Problem(400, "invalid_field", sentence, field="from")
    return month


def _later(month: Period, months: int) -> Period:
    for _ in range(months):
        month = month.next()
    return month


def _check(wanted: AiTerms) -> None:
    if not 0 <= wanted.cap_cents <= MOST_CAP:
        raise Problem(400, "invalid_field", f"capCents: from 0 to {MOST_CAP}.", field="capCents")
    whole = wanted.markup == round(wanted.markup, MARKUP_PLACES)
    if not (0 <= wanted.markup <= MOST_MARKUP and whole):
        sentence = f"markup: a fraction from 0 to {MOST_MARKUP}, at most {MARKUP_PLACES} decimals."
        raise Problem(400, "invalid_field", sentence, field="markup")


def _tell(instance: Instance, before: CapChange | None, made: CapChange, month: Period, actor: str) -> None:
    facts = {"client": instance.org_id, "month": month.label, "currency": instance.currency}
    was = {"cap_cents": before.cap_cents, "markup": plain_markup(before.markup)} if before else {}
    now = {"cap_cents": made.cap_cents, "markup": plain_markup(made.markup)}
    record(Kind.AI_TERMS_SET, actor, f"instance:{instance.name}", before=was, after=now, **facts)
