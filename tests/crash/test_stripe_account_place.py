"""An order leads to one invoice with the right lines, whatever dies, fails, forgets or happens twice on the way.

Against the Stripe simulator over HTTP with the official SDK. A crash is an exception that nothing catches, thrown before
or after a call to Stripe or to the journal; then a new process comes back: at once, within Stripe's memory, or after it.
"""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import requests

from provider_federation.stripe_account import (
    DuplicateInvoices,
    InvoiceOrder,
    OrderCustomer,
    OrderLine,
    Patience,
    Placement,
    StepRecord,
    StripeAccount,
    StripeFailed,
    TotalsDiffer,
    ensure_customer,
    place_invoice,
)
from provider_federation.testing.stripe_sim.server import start_in_thread

HOUR = 3600
KEYS = itertools.count(1)


class Crashed(BaseException):
    """The process is gone: nothing may catch this."""


class Sim:
    """The simulator's address and levers."""

    def __init__(self, base):
        self.base = base

    def control(self, lever, **body):
        answer = requests.post(f"{self.base}/_sim{lever}", json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def now(self):
        return datetime.fromtimestamp(requests.get(f"{self.base}/_sim/clock", timeout=10).json()["now"], UTC)


@pytest.fixture(scope="module")
def sim():
    running = start_in_thread()
    yield Sim(running.url)
    running.stop()


class Memory:
    """The journal as an app keeps it: committed when a method returns, unique over (key, step)."""

    def __init__(self):
        self.rows = {}
        self.lock = threading.Lock()

    def load(self, key):
        with self.lock:
            return {step: row for (owner, step), row in self.rows.items() if owner == key}

    def begin(self, key, step, idempotency_key, at):
        with self.lock:
            old = self.rows.get((key, step))
            if old is None or old.result_id is None:
                self.rows[key, step] = StepRecord(idempotency_key, at, None, old.first_at if old else at)

    def finish(self, key, step, result_id, _at):
        with self.lock:
            if self.rows[key, step].result_id is None:
                self.rows[key, step] = replace(self.rows[key, step], result_id=result_id)
            return self.rows[key, step].result_id


class Crashing:
    """Passes calls through and dies at one point; two points a call, before it and after it."""

    def __init__(self, inner, fuse):
        self.inner, self.fuse = inner, fuse

    def __getattr__(self, name):
        method = getattr(self.inner, name)

        def call(*arguments, **named):
            self.fuse(f"before {name}")
            result = method(*arguments, **named)
            self.fuse(f"after {name}")
            return result

        return call


class Fuse:
    def __init__(self, at=None):
        self.at, self.met = at, []

    def __call__(self, point):
        if len(self.met) == self.at:
            raise Crashed(point)
        self.met.append(point)


class Place:
    """One account of the simulator, one order and its journal, and the processes that come and go."""

    def __init__(self, sim, lines=3, **changes):
        self.sim = sim
        self.key = f"sk_test_place_{next(KEYS)}_{random.getrandbits(32)}"
        self.account = StripeAccount(self.key, sim.base)
        self.journal = Memory()
        self.offset = timedelta(0)
        self.lines = tuple(
            OrderLine(f"lead:{number}", f"Lead {number}", 100 + number) for number in range(lines)
        )
        customer = OrderCustomer("cust-1", "Acme", "billing@acme.test")
        self.order = replace(InvoiceOrder("usage:acme:2026-02", customer, "USD", self.lines), **changes)

    def run(self, fuse=None):
        fuse = fuse or Fuse()
        account, journal = Crashing(self.account, fuse), Crashing(self.journal, fuse)
        return place_invoice(
            account, self.order, journal, now=self.sim.now, patience=Patience(sleep=lambda _s: None)
        )

    def work(self):
        """As a job does it: again while the failure says that this may help."""
        for _job in range(12):
            try:
                return self.run()
            except StripeFailed as failed:
                if not failed.retryable:
                    raise
        raise AssertionError("it never came through")

    def fault(self, kind, **more):
        self.sim.control("/faults", kind=kind, key=self.key, **more)

    def forget(self):
        self.fault("forget_idempotency")

    def mails(self):
        return len(self.account.list_events(types=["invoice.sent"]))

    def check(self, invoice=None):
        """One customer, one invoice, each line once, open and sent."""
        [customer] = self.account.list_customers()
        [found] = self.account.list_invoices()
        assert invoice is None or invoice.id == found.id
        assert (found.status, found.total, found.customer_id) == ("open", self.order.total, customer.id)
        assert found.metadata["pf_key"] == self.order.key
        assert found.hosted_invoice_url
        assert 1 <= self.mails() <= 2  # a second mail only when Stripe has forgotten that it sent one
        lines = self.account.list_lines(found.id)
        assert sorted((line.metadata["pf_line"], line.amount) for line in lines) == sorted(
            (line.key, line.amount) for line in self.lines
        )
        return found


def test_the_way_without_accidents(sim):
    place = Place(sim, lines=520)
    invoice = place.check(place.run())
    assert place.run().id == invoice.id
    assert invoice.number
    assert invoice.due_date - invoice.created >= timedelta(days=29)
    steps = [step for key, step in place.journal.rows]
    assert steps == ["customer", "invoice", "lines-0", "lines-1", "lines-2", "finalise", "send"]


def points(sim, **options):
    place, fuse = Place(sim, **options), Fuse()
    place.run(fuse)
    place.check()
    return fuse.met


@pytest.mark.parametrize("gap", [0, 22 * HOUR, 25 * HOUR], ids=["at once", "within a day", "after a day"])
@pytest.mark.parametrize("memory", ["kept", "lost"])
def test_a_crash_at_every_point(sim, gap, memory, capsys):
    met = points(sim)
    for at, _point in enumerate(met):
        place = Place(sim)
        with pytest.raises(Crashed):
            place.run(Fuse(at))
        if gap:
            sim.control("/clock/advance", seconds=gap)
        if memory == "lost":
            place.forget()
        place.check(place.run())
        if memory == "kept" and gap < 24 * HOUR:
            assert place.mails() == 1
    with capsys.disabled():
        print(f"\n{len(met)} crash points, back after {gap // HOUR} h, Stripe's memory {memory}")


def test_a_crash_at_every_point_of_many_lines(sim, capsys):
    met = points(sim, lines=300)
    for at, point in enumerate(met):
        if "lines" not in point and "begin" not in point:
            continue
        place = Place(sim, lines=300)
        with pytest.raises(Crashed):
            place.run(Fuse(at))
        place.forget()
        place.check(place.run())
    with capsys.disabled():
        print(f"\n300 lines: {sum('lines' in point or 'begin' in point for point in met)} crash points")


def test_crash_after_crash(sim, capsys):
    """A process that dies on its way again and again, each time somewhere else, with days and lost memories between."""
    chance = random.Random(7)
    crashes = 0
    for _round in range(25):
        place = Place(sim)
        for _life in range(8):
            try:
                place.run(Fuse(chance.randrange(30)))
            except Crashed:
                crashes += 1
                if chance.random() < 0.3:
                    sim.control("/clock/advance", seconds=chance.choice([HOUR, 23 * HOUR, 30 * HOUR]))
                if chance.random() < 0.3:
                    place.forget()
        place.check(place.run())
    with capsys.disabled():
        print(f"\n{crashes} crashes over 25 orders")


def test_the_journal_is_lost_with_the_database(sim):
    """An app restored from a backup of before the order, days later: the invoice is found, not made again."""
    for lines in (3, 300):
        place = Place(sim, lines=lines)
        first = place.run()
        place.journal.rows.clear()
        sim.control("/clock/advance", seconds=48 * HOUR)
        assert place.check(place.run()).id == first.id


KINDS = ["rate_limit", "error_before", "error_after", "drop_before", "drop_after"]


@pytest.mark.parametrize("count", [1, 5], ids=["once", "until the job comes back"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_every_request(sim, kind, count, capsys):
    calls = [
        point
        for point in points(sim)
        if point.startswith("before") and not point.endswith((" load", " begin", " finish"))
    ]
    for skip in range(len(calls)):
        place = Place(sim)
        place.fault(kind, skip=skip, count=count)
        place.check(place.work())
    with capsys.disabled():
        print(f"\n{len(calls)} requests with {kind} x{count}")


def test_a_500_that_is_remembered_for_a_day_does_not_block_the_order(sim):
    """Stripe answers a key whose request died inside for 24 hours with the same 500: look it up, then take the next key."""
    place = Place(sim)
    place.fault("error_before", path="/v1/invoices", method="POST", count=1, remembered=True)
    place.check(place.run())
    assert place.journal.rows[place.order.key, "invoice"].idempotency_key.endswith("/2")


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_workers_on_one_order(sim, kind):
    place = Place(sim, lines=260)
    if kind:
        place.fault(kind, count=6, skip=3)
    failures = []

    def work():
        try:
            place.work()
        except Exception as error:  # noqa: BLE001  shown by the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    place.check(place.run())


def test_two_orders_share_one_new_customer(sim):
    place = Place(sim)
    place.run()
    place.order = replace(place.order, key="usage:acme:2026-03")
    place.run()
    assert len(place.account.list_customers()) == 1
    assert len(place.account.list_invoices()) == 2


def test_a_customer_without_an_email_is_found_too(sim):
    place = Place(sim, customer=OrderCustomer("cust-2", "No Mail"))
    for at in range(8):
        with pytest.raises(Crashed):
            ensure_customer(
                Crashing(place.account, fuse := Fuse(at % 4)),
                place.order.customer,
                Crashing(place.journal, fuse),
                now=sim.now,
            )
        place.forget()
    first = ensure_customer(place.account, place.order.customer, place.journal, now=sim.now)
    assert [customer.id for customer in place.account.list_customers()] == [first]


def test_a_known_customer_is_used_as_it_is(sim):
    place = Place(sim)
    known = place.account.create_customer(name="Known", email=None, metadata={}, idempotency_key="known")
    place.order = replace(place.order, customer=OrderCustomer("cust-1", "Acme", stripe_id=known.id))
    assert place.check(place.run()).customer_id == known.id


def stop_before(place, step):
    placement = Placement(place.account, place.order, place.journal, now=place.sim.now)
    while placement.advance() != step:
        pass


def test_a_draft_that_somebody_changed_is_held(sim):
    place = Place(sim)
    stop_before(place, "lines-0")
    [draft] = place.account.list_invoices()
    place.account.add_lines(draft.id, [{"amount": 1, "description": "Surprise"}], idempotency_key="surprise")
    for _job in range(2):
        with pytest.raises(TotalsDiffer) as held:
            place.run()
        assert (held.value.code, held.value.retryable) == ("totals_differ", False)
    assert place.account.retrieve_invoice(draft.id).status == "draft"


def test_only_what_is_missing_is_added(sim):
    """Died right after the lines were attached; then somebody took one off the draft."""
    place = Place(sim)
    met = points(sim)
    with pytest.raises(Crashed):
        place.run(Fuse(met.index("after add_lines")))
    [draft] = place.account.list_invoices()
    taken = {"id": place.account.list_lines(draft.id)[1].id, "behavior": "delete"}
    place.account._v1.invoices.remove_lines(draft.id, {"lines": [taken]})
    assert len(place.account.list_lines(draft.id)) == 2
    place.check(place.run())
    assert place.journal.rows[place.order.key, "lines-0"].idempotency_key.endswith("/2")


def test_a_draft_that_somebody_finalised_is_held_unless_it_is_the_order(sim):
    place = Place(sim)
    stop_before(place, "invoice")
    [draft] = place.account.list_invoices()
    place.account.add_lines(draft.id, [{"amount": 5000, "description": "By hand"}], idempotency_key="by hand")
    place.account.finalize_invoice(draft.id, idempotency_key="by hand too")
    with pytest.raises(TotalsDiffer):
        place.run()


def test_two_living_invoices_of_one_order_are_held(sim):
    place = Place(sim)
    customer = place.account.create_customer(
        name="A", email="billing@acme.test", metadata={"pf_customer": "cust-1"}, idempotency_key="c"
    )
    for number in range(2):
        place.account.create_invoice(
            customer_id=customer.id,
            currency="USD",
            metadata={"pf_key": place.order.key},
            idempotency_key=f"i{number}",
        )
    with pytest.raises(DuplicateInvoices):
        place.run()
    assert {invoice.status for invoice in place.account.list_invoices()} == {"draft"}


def test_below_the_minimum_charge_it_is_paid_at_once_and_not_sent(sim):
    place = Place(sim, lines=1)
    place.order = replace(place.order, lines=(OrderLine("ai", "AI usage", 7),))
    assert place.run().status == "paid"
    assert place.run().status == "paid"


def test_an_invoice_that_was_voided_meanwhile_comes_back_as_it_is(sim):
    place = Place(sim)
    first = place.run()
    place.account.void_invoice(first.id, idempotency_key="void")
    assert place.run().status == "void"
    place.journal.rows.clear()
    assert place.run().id == first.id


def test_a_wrong_key_is_no_reason_to_try_again(sim):
    place = Place(sim)
    place.account = StripeAccount("sk_live_not_here", sim.base)
    with pytest.raises(StripeFailed) as failed:
        place.run()
    assert not failed.value.retryable
