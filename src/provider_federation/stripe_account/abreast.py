"""Many new orders side by side, a step at a time: what is committed for one is committed for all of them.

Each step of each order is begun in the journal before its call, as everywhere. Only what goes as planned goes here:
whoever meets anything else (a refusal, no answer, another worker) steps aside with its journal as it is, for
`place_invoice` to go on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

from provider_federation.stripe_account.account import StripeAccount
from provider_federation.stripe_account.errors import StripeFailed
from provider_federation.stripe_account.order import InvoiceOrder, ManyJournal
from provider_federation.stripe_account.place import Placement
from provider_federation.stripe_account.shapes import StripeInvoice
from provider_federation.stripe_account.steps import Done, Now, Step, first_key, take_first

JOURNAL_CONTRADICTED = "journal_contradicted"
_YOUNG = timedelta(minutes=5)
"""After so long somebody else may have taken a begun step over; it is looked up then, not taken."""


def place_abreast(
    account: StripeAccount,
    orders: Iterable[InvoiceOrder],
    journal: ManyJournal,
    *,
    now: Now,
    at_once: int = 1,
) -> Mapping[str, StripeInvoice | StripeFailed]:
    """Finalised and sent invoices by the orders' keys, or what Stripe or the journal said against one.

    For orders of customers that exist, which the caller vouches for (see `place_invoice`). An order that is not
    in the answer, because somebody else has begun it or it took too long, is one for `place_invoice`; so is one with
    a StripeFailed, unless that is the journal's own. `at_once` calls are under way at a time, in threads of their own
    when that is more than one; the journal is only ever called in the caller's.
    """
    ended: dict[str, StripeInvoice | StripeFailed] = {}
    lanes = {
        order.key: Placement(account, order, journal, now=now, vouched=True, known={}) for order in orders
    }
    taken: dict[str, tuple[Step, Done]] = {}
    with _mapping(at_once) as side_by_side:
        while lanes:
            begun_at = now()
            steps = _turn(lanes, taken, journal, begun_at, ended)
            take = partial(_call, begun_at=begun_at, now=now)
            taken = {}
            for key, outcome in zip(steps, side_by_side(take, steps.values()), strict=True):
                if isinstance(outcome, Done):
                    taken[key] = steps[key], outcome
                elif outcome is not None:
                    ended[key] = outcome
            lanes = {key: lane for key, lane in lanes.items() if key in taken}
    return ended


_Map = Callable[
    [Callable[[Step], Done | StripeFailed | None], Iterable[Step]], Iterable[Done | StripeFailed | None]
]


@contextmanager
def _mapping(at_once: int) -> Iterator[_Map]:
    if at_once == 1:
        yield map
        return
    with ThreadPoolExecutor(at_once, "stripe") as pool:
        yield pool.map


def _turn(
    lanes: Mapping[str, Placement],
    taken: Mapping[str, tuple[Step, Done]],
    journal: ManyJournal,
    at: datetime,
    ended: dict[str, StripeInvoice | StripeFailed],
) -> dict[str, Step]:
    """Commit what was taken and begin what comes next; the steps that are ours to take."""
    for key, (step, done) in taken.items():
        lanes[key].note(step, done)
    following = {key: lane.upcoming() for key, lane in lanes.items()}
    steps = {key: step for key, step in following.items() if step is not None}
    finished = [(key, step.name, done.result_id) for key, (step, done) in taken.items()]
    began = [(key, step.name, first_key(step)) for key, step in steps.items()]
    kept, new = journal.turn(finished, began, at)
    for key, (step, done) in taken.items():
        if kept[key] != done.result_id:
            ended[key] = _contradicted(key, step.name, kept[key], done.result_id)
        elif key not in steps:
            ended[key] = _outcome(lanes[key])
    return {key: step for key, step in steps.items() if key in new and key not in ended}


def _call(step: Step, *, begun_at: datetime, now: Now) -> Done | StripeFailed | None:
    if abs(now() - begun_at) >= _YOUNG:
        return None
    try:
        return take_first(step)
    except StripeFailed as failure:
        return failure


def _outcome(lane: Placement) -> StripeInvoice | StripeFailed:
    try:
        return lane.invoice()
    except StripeFailed as failure:
        return failure


def _contradicted(key: str, step: str, before: str, now: str) -> StripeFailed:
    """One step led to two objects in Stripe: not retried, a person must look before anything else is sent."""
    return StripeFailed(JOURNAL_CONTRADICTED, f"{key} {step} led to {before} before and to {now} now")
