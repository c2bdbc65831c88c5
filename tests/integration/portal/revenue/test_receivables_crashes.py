"""A credit note and a refund are made once, whatever dies: before and after every call to Stripe and every commit of
the journal and of our rows; with Stripe's memory kept and lost.
"""

from __future__ import annotations

import pytest
from tests.integration.portal.revenue.rig import FEBRUARY, run_jobs

from provider_federation.portal.receivables.models import CreditNote, Refund
from provider_federation.portal.receivables.services import credit_notes, refunds
from provider_federation.portal.receivables.services.credit_notes import CreditLine, CreditRequest
from provider_federation.portal.receivables.services.jobs import defer_forgotten
from provider_federation.portal.receivables.services.refunds import RefundRequest
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.revenue.services import refresh_any_invoice
from provider_federation.portal.subscriptions import account as accounts

_READS = ("list_", "retrieve_")


class Crashed(BaseException):
    """The process is gone: nothing may catch this."""


class Crashing:
    """Passes calls through and dies at one point; two points a call that changes something or is on the way to it."""

    def __init__(self, inner, fuse):
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        if not callable(method):
            return method

        def call(*arguments, **named):
            self._fuse(f"before {name}")
            result = method(*arguments, **named)
            if not name.startswith(_READS):
                self._fuse(f"after {name}")
            return result

        return call


class Fuse:
    def __init__(self, at=None):
        self.at, self.met = at, []

    def __call__(self, point):
        if len(self.met) == self.at:
            raise Crashed(point)
        self.met.append(point)


@pytest.fixture
def paid(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2, ai="90.00")
    wanted = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    api.post("/api/provider/billing/revenue", wanted, content_type="application/json")
    assert run_jobs() == []
    row = UsageInvoice.objects.get()
    books.post(f"invoices/{row.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    return refresh_any_invoice(row.stripe_invoice_id)


def credit(invoice, number):
    line = CreditLine(1, 100)
    credit_notes.issue_credit_note(
        invoice, CreditRequest(f"c{number}", (line,), settle="refund"), actor="operator:t"
    )


def refund(invoice, number):
    refunds.refund_payment(invoice, RefundRequest(f"r{number}", 100), actor="operator:t")


@pytest.mark.parametrize("way", [credit, refund])
@pytest.mark.parametrize("memory", ["kept", "lost"])
def test_a_crash_at_every_point_leaves_exactly_one(books, paid, monkeypatch, capsys, way, memory):
    account, real_journal = accounts.provider_account(), refunds.DatabaseJournal

    def run(number, fuse):
        with monkeypatch.context() as patched:
            patched.setattr(accounts, "_account", lambda *_given: Crashing(account, fuse))
            for module in (credit_notes, refunds):  # a note's refund is a step of its own
                patched.setattr(module, "DatabaseJournal", lambda: Crashing(real_journal(), fuse))
            way(paid, number)

    counted = Fuse()
    run(0, counted)
    for at in range(len(counted.met)):
        with pytest.raises(Crashed):
            run(at + 1, Fuse(at))
        if memory == "lost":
            books.simulator.control("faults", kind="forget_idempotency", key=books.key)
        # Half of them are asked for again; the others nobody asks for, and the housekeeping finds them.
        if at % 2:
            run(at + 1, Fuse())
        else:
            defer_forgotten()
        assert run_jobs() == []
        if way is refund and not Refund.objects.filter(reference=f"r{at + 1}").exists():
            run(at + 1, Fuse())  # it died before anything was claimed: there is nothing to be found
    made = books.get(f"{'credit_notes' if way is credit else 'refunds'}?limit=100")["data"]
    wanted = CreditNote if way is credit else Refund
    rows = wanted.objects.exclude(reference="")
    assert len(made) == rows.count() == len(counted.met) + 1
    assert set(rows.values_list("state", flat=True)) == {"issued" if way is credit else "succeeded"}
    assert Refund.objects.count() == len(books.get("refunds?limit=100")["data"]) == len(counted.met) + 1
    with capsys.disabled():
        print(f"\n{len(counted.met)} crash points of a {way.__name__}, Stripe's memory {memory}")
