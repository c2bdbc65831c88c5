"""What each action asks of one instance, and the bounded summary kept of its answer. No database in here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from provider_federation.kit.text import clean_text
from provider_federation.portal.fleet.models import Action, OutcomeKind
from provider_federation.portal.fleet.schemas import RunParams, web_address
from provider_federation.portal.shim import (
    Answered,
    BadAnswer,
    Call,
    Outcome,
    RefusedThere,
    Target,
    TimedOut,
    Unreachable,
)

# One instance's request, already bound to a shim.
Ask = Callable[[Target, Call], Awaitable[Outcome]]

WRITES = frozenset({Action.DRAFT, Action.SEND})
_LIST_PAGES = 40
_LIST_LIMIT = 100
_SHOWN = 50
_MOST_FIELDS = 20
_LONGEST_TEXT = 300
# A run over fifty instances at once may meet one that is slow to write; drafting many leads takes its time.
_WRITE_SECONDS = 60.0
_IN_PROGRESS_REPEATS = 3
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.-]{1,63}")


_KINDS: dict[type[Outcome], OutcomeKind] = {
    Answered: OutcomeKind.ANSWERED,
    RefusedThere: OutcomeKind.REFUSED,
    TimedOut: OutcomeKind.TIMED_OUT,
    Unreachable: OutcomeKind.UNREACHABLE,
    BadAnswer: OutcomeKind.BAD_ANSWER,
}


@dataclass(frozen=True)
class Finding:
    """What came of one instance's part: how it ended, and a bounded summary for people and programs."""

    ok: bool
    kind: OutcomeKind
    code: str
    sentence: str
    result: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: Outcome, result: Mapping[str, Any] | None = None) -> Finding:
        """The outcome that decided it, as a finding."""
        return cls(outcome.ok, _kind(outcome), outcome.code, outcome.sentence, result or {})

    @classmethod
    def internal(cls, code: str, sentence: str) -> Finding:
        """It failed on our side."""
        return cls(ok=False, kind=OutcomeKind.INTERNAL, code=code, sentence=sentence)


class Stopped(Exception):
    """Raised by `Ask` instead of a further write: the run or the instance is no longer what it was."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code)
        self.code = code
        self.sentence = sentence


async def preview(ask: Ask, target: Target, params: RunParams, key: str, subject: str) -> Finding:  # noqa: ARG001  one signature for all
    """Billable leads in a window: `{count, totalCents, currency, window, lines}`, the first lines only."""
    outcome = await ask(target, Call("GET", "/api/billing/preview", query=params.window()))
    if not isinstance(outcome, Answered):
        return Finding.of(outcome)
    data = outcome.data
    return Finding.of(
        outcome,
        {
            **_pick(data, "count", "totalCents", "currency", "window"),
            "lines": [_flat(line) for line in _list(data, "lines")[:_SHOWN]],
        },
    )


async def draft(ask: Ask, target: Target, params: RunParams, key: str, subject: str) -> Finding:  # noqa: ARG001  one signature for all
    """Draft invoices for a window: `{reused, message, counts, totals, currency, invoices, invoiceCount}`."""
    call = Call(
        "POST",
        "/api/billing/invoices.create",
        body=params.window(),
        idempotency_key=key,
        timeout=_WRITE_SECONDS,
    )
    outcome = await _patiently(ask, target, call)
    if not isinstance(outcome, Answered):
        return Finding.of(outcome)
    data = outcome.data
    invoices = _list(data, "invoices")
    return Finding.of(
        outcome,
        {
            **_pick(data, "reused", "message", "counts", "totals", "currency", "window"),
            "invoices": [_invoice_line(invoice) for invoice in invoices[:_SHOWN]],
            "invoiceCount": len(invoices),
        },
    )


async def send(ask: Ask, target: Target, params: RunParams, key: str, subject: str) -> Finding:  # noqa: ARG001  one signature for all
    """Send one invoice (`subject`), or every draft there is, each with an idempotency key of its own.

    `{sent, sentCount, failed, failedCount}`. The deciding outcome is the first failure, so that a retry
    takes it up again; what was sent is no draft any more and is not sent twice. `Stopped` ends it between two.
    """
    if subject:
        ids, listed = [subject], None
    else:
        ids, listed = await _drafts(ask, target)
        if listed is not None and not listed.ok:
            return Finding.of(listed)
    sent: list[dict[str, Any]] = []
    failed: list[tuple[str, Outcome]] = []
    last: Outcome | None = listed
    stopped: Stopped | None = None
    for invoice_id in ids:
        try:
            last = await _patiently(ask, target, _send_call(invoice_id, key))
        except Stopped as stop:
            stopped = stop
            break
        if isinstance(last, Answered):
            sent.append({"id": invoice_id, **_stripe_line(last.data)})
        else:
            failed.append((invoice_id, last))
            if not _others_may_work(last):
                break
    assert last is not None  # there was a list or at least one id
    return _sent(sent, failed, last, stopped)


def _sent(
    sent: list[dict[str, Any]], failed: list[tuple[str, Outcome]], last: Outcome, stopped: Stopped | None
) -> Finding:
    """One whose fate is unknown decides over the refused: a retry then repeats it under the same key."""
    result = {
        "sent": sent[:_SHOWN],
        "sentCount": len(sent),
        "failedCount": len(failed),
        "failed": [
            {"id": one, "code": out.code, "error": _clip(out.sentence)} for one, out in failed[:_SHOWN]
        ],
    }
    unknown = [outcome for _id, outcome in failed if _kind(outcome) != OutcomeKind.REFUSED]
    if stopped and not unknown:
        return Finding(False, OutcomeKind.SKIPPED, stopped.code, stopped.sentence, result)
    return Finding.of(next(iter(unknown), failed[0][1] if failed else last), result)


ACTIONS: Mapping[str, Callable[[Ask, Target, RunParams, str, str], Awaitable[Finding]]] = {
    Action.PREVIEW: preview,
    Action.DRAFT: draft,
    Action.SEND: send,
}


def _kind(outcome: Outcome) -> OutcomeKind:
    """A refusal changed nothing there. A fault did perhaps, and so does the first request while it runs."""
    if isinstance(outcome, RefusedThere) and (
        outcome.status >= 500 or outcome.code == "idempotency_in_progress"
    ):
        return OutcomeKind.FAILED_THERE
    return _KINDS[type(outcome)]


async def _patiently(ask: Ask, target: Target, call: Call) -> Outcome:
    """After a crash the instance may still be at work on the first request with this key; it says so,
    after waiting a while.
    """
    outcome = await ask(target, call)
    for _again in range(_IN_PROGRESS_REPEATS):
        if outcome.code != "idempotency_in_progress":
            break
        outcome = await ask(target, call)
    return outcome


def _send_call(invoice_id: str, key: str) -> Call:
    return Call(
        "POST",
        "/api/integrations/stripe/create-hosted-invoice",
        body={"id": invoice_id},
        idempotency_key=f"{key}-{_header_safe(invoice_id)}",
        timeout=_WRITE_SECONDS,
    )


def _header_safe(invoice_id: str) -> str:
    """The id came from an instance or a caller and goes into a header: two ids never become the same key."""
    plain = _PLAIN_ID.fullmatch(invoice_id) is not None
    return invoice_id if plain else hashlib.sha256(invoice_id.encode()).hexdigest()


def _others_may_work(outcome: Outcome) -> bool:
    """A refusal concerns one invoice; an instance that is away is away for the rest as well."""
    return getattr(outcome, "status", 0) in range(400, 500) and outcome.code != "rate_limited"


async def _drafts(ask: Ask, target: Target) -> tuple[list[str], Outcome]:
    """The ids of all drafts, oldest first, with the outcome of the last page read."""
    ids: list[str] = []
    cursor: str | None = None
    for _page in range(_LIST_PAGES):
        query: dict[str, str | int | None] = {"status": "draft", "limit": _LIST_LIMIT, "cursor": cursor}
        outcome = await ask(target, Call("GET", "/api/billing/list", query=query))
        if not isinstance(outcome, Answered):
            return [], outcome
        ids += [
            str(item["id"])
            for item in _list(outcome.data, "items")
            if isinstance(item, dict) and item.get("id")
        ]
        following = outcome.data.get("nextCursor")
        if not following:
            return list(dict.fromkeys(reversed(ids))), outcome
        if not isinstance(following, str) or following == cursor:
            return [], BadAnswer("page_cap", "the list's cursor does not move")
        cursor = following
    return [], BadAnswer("page_cap", f"more than {_LIST_PAGES * _LIST_LIMIT} drafts")


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    value = data.get(name)
    return value if isinstance(value, list) else []


def _pick(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The named fields, each a scalar or an object of scalars; anything deeper or longer is left there."""
    return {name: _flat(data[name]) for name in names if data.get(name) is not None}


def _flat(value: Any) -> Any:
    if not isinstance(value, dict):
        return _scalar(value)
    scalars = [(name, item) for name, item in value.items() if not isinstance(item, dict | list)]
    return {_clip(str(name)): _scalar(item) for name, item in scalars[:_MOST_FIELDS]}


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int) else _clip(str(value))


def _clip(text: str) -> str:
    return clean_text(text, _LONGEST_TEXT)


def _invoice_line(invoice: Any) -> dict[str, Any]:
    if not isinstance(invoice, dict):
        return {}
    customer = invoice.get("customer")
    name = customer.get("name") if isinstance(customer, dict) else None
    line = _pick(invoice, "id", "number", "status", "totalCents", "currency")
    return {**line, "customer": _clip(str(name))} if name else line


def _stripe_line(data: Mapping[str, Any]) -> dict[str, Any]:
    stripe = data.get("stripeInvoice")
    if not isinstance(stripe, dict):
        return {}
    address = web_address(stripe.get("hostedInvoiceUrl"))
    return {"stripe": {**_pick(stripe, "id", "number", "status", "amountDue"), "hostedInvoiceUrl": address}}
