"""A run in words: what it will do before it starts, and what came of each instance's part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Count

from provider_federation.money import MoneyError, format_amount
from provider_federation.portal.fleet.models import Action, CallStatus, FleetCall, FleetRun, RunStatus
from provider_federation.portal.fleet.schemas import RunParams

CHANGES_SOMETHING: Final = frozenset({Action.DRAFT, Action.SEND})
"""Actions that an operator confirms; the others only read."""

RANGES: Final = (
    ("d7", "Last 7 days"),
    ("d30", "Last 30 days"),
    ("d90", "Last 90 days"),
    ("all", "Last 365 days"),
    ("custom", "These days …"),
)
_STATES = (CallStatus.OK, CallStatus.FAILED, CallStatus.CANCELLED, CallStatus.RUNNING, CallStatus.WAITING)


@dataclass(frozen=True)
class Progress:
    """How far a run has come; percentages of all its calls."""

    total: int
    counts: Mapping[str, int]
    live: bool

    @property
    def finished(self) -> int:
        return sum(self.counts[state] for state in (CallStatus.OK, CallStatus.FAILED, CallStatus.CANCELLED))

    def share(self, state: str) -> float:
        return round(100 * self.counts[state] / self.total, 2) if self.total else 0.0

    @property
    def bars(self) -> list[tuple[str, float]]:
        tones = {CallStatus.OK: "is-good", CallStatus.FAILED: "is-bad", CallStatus.CANCELLED: "is-off"}
        return [(tone, self.share(state)) for state, tone in tones.items()]


def progress_of(run: FleetRun) -> Progress:
    """One grouped query, however many instances."""
    found = dict(run.calls.order_by().values_list("status").annotate(Count("pk")))
    counts = {str(state): found.get(state, 0) for state in _STATES}
    live = run.finished_at is None and run.status in {
        RunStatus.QUEUED,
        RunStatus.RUNNING,
        RunStatus.CANCELLED,
    }
    return Progress(sum(counts.values()), counts, live)


def window_words(params: Mapping[str, Any]) -> str:
    """Such as `the last 30 days`, or `2026-01-01 to 2026-01-31`."""
    if params.get("start"):
        return f"{params['start']} to {params['end']}"
    return {"d7": "the last 7 days", "d90": "the last 90 days", "all": "the last 365 days"}.get(
        str(params.get("range", "")), "the last 30 days"
    )


def consequences(action: str, params: RunParams, instances: int) -> list[str]:
    """What will happen when the operator confirms."""
    where = "on 1 instance" if instances == 1 else f"on each of {instances} instances"
    window = window_words(params.stored())
    if action == Action.DRAFT:
        return [
            f"Draft invoices are created {where}, for every billable lead converted in {window} (UTC).",
            "Those leads are reserved: no other invoice can take them until a draft is voided.",
            "Nothing is sent and nobody is charged. Running it twice reuses the drafts that exist.",
        ]
    if params.invoice_ids:
        count = len(params.invoice_ids)
        what = "The chosen invoice is" if count == 1 else f"The {count} chosen invoices are"
    else:
        what = f"Every draft invoice {where} is"
    return [
        f"{what} finalised in the client's own Stripe account and sent to the customer.",
        "Finalised is final: a mistake is corrected by a credit note, not by deleting the invoice.",
        "An invoice that was sent before is not sent again.",
    ]


def call_words(call: FleetCall) -> str:
    """One sentence on what came of it."""
    if call.status == CallStatus.FAILED:
        return call.sentence or "It failed without a reason."
    if call.status != CallStatus.OK:
        return {"waiting": "Waiting for its turn", "running": "Under way"}.get(call.status, call.sentence)
    return _SENTENCES.get(call.run.action, _plain)(call.result)


@dataclass(frozen=True)
class Detail:
    """One list behind a result: lines of (text, address or empty)."""

    heading: str
    lines: list[tuple[str, str]]
    open: bool = False


def call_details(call: FleetCall) -> list[Detail]:
    """The lists inside an instance's summary. Whatever shape it has, this raises nothing."""
    result, currency = call.result, call.result.get("currency")
    leads = [
        (_joined(_lead_name(one), one.get("when"), _amount(one.get("amountCents"), currency)), "")
        for one in _rows(result, "lines")
    ]
    invoices = [
        (_joined(_name(one), one.get("customer"), _amount(one.get("totalCents"), one.get("currency"))), "")
        for one in _rows(result, "invoices")
    ]
    sent = [_sent_line(one) for one in _rows(result, "sent")]
    failed = [(_joined(one.get("id"), one.get("error")), "") for one in _rows(result, "failed")]
    found = (
        Detail(_count(len(leads), "lead", "leads"), leads),
        Detail(_count(len(invoices), "invoice", "invoices"), invoices),
        Detail(f"{len(sent)} sent", sent),
        Detail(f"{len(failed)} not sent", failed, open=True),
    )
    return [detail for detail in found if detail.lines]


def _rows(result: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = result.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _joined(*parts: Any) -> str:
    return " · ".join(str(part) for part in parts if part)


def _lead_name(line: Mapping[str, Any]) -> Any:
    return line.get("leadPublicId") or line.get("leadId")


def _name(line: Mapping[str, Any]) -> Any:
    return line.get("number") or line.get("id")


def _sent_line(line: Mapping[str, Any]) -> tuple[str, str]:
    stripe = line.get("stripe")
    stripe = stripe if isinstance(stripe, dict) else {}
    # fleet keeps web addresses only; a link is never made of anything else
    return str(stripe.get("number") or line.get("id") or ""), str(stripe.get("hostedInvoiceUrl") or "")


def _amount(cents: Any, currency: Any) -> str:
    if not isinstance(cents, int):
        return ""
    try:
        return format_amount(cents, str(currency or "usd"))
    except MoneyError:
        return f"{cents} {currency}"


def _count(number: Any, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _preview(result: Mapping[str, Any]) -> str:
    if not result.get("count"):
        return "Nothing to bill in this window"
    total = _amount(result.get("totalCents"), result.get("currency"))
    return f"{_count(result['count'], 'billable lead', 'billable leads')}, {total}"


def _draft(result: Mapping[str, Any]) -> str:
    count = result.get("invoiceCount", 0)
    if not count:
        return str(result.get("message") or "Nothing to bill in this window")
    totals = result.get("totals")
    total = totals.get("totalCents") if isinstance(totals, dict) else None
    made = _count(count, "draft", "drafts") + (" (existing)" if result.get("reused") else "")
    return f"{made}, {_amount(total, result.get('currency'))}".rstrip(", ")


def _send(result: Mapping[str, Any]) -> str:
    sent = result.get("sentCount", 0)
    return f"{_count(sent, 'invoice', 'invoices')} sent" if sent else "No drafts to send"


def _sync(result: Mapping[str, Any]) -> str:
    changes = result.get("changes", 0)
    return f"{_count(changes, 'change', 'changes')} read" if changes else "Up to date"


def _plain(_result: Mapping[str, Any]) -> str:
    return "Answered"


_SENTENCES = {
    Action.PREVIEW.value: _preview,
    Action.DRAFT.value: _draft,
    Action.SEND.value: _send,
    Action.SYNC.value: _sync,
}
