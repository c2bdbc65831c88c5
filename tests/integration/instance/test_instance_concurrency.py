"""Many at once: threads in this process and whole processes, on the database that the suite runs on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.locks import exclusive
from provider_federation.instance.invoicing.models import Change, Invoice, InvoiceLine, LeadReservation
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.leads.services import add_customer
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Period

MakeLead = Callable[..., Lead]
pytestmark = pytest.mark.django_db(transaction=True)

_DRAFT_ALONE = """
import sys, json, django
django.setup()
from provider_federation.instance.invoicing import services
from provider_federation.money import parse_window
from provider_federation.kit import clock
sys.stdin.readline()
for _ in range(5):
    drafted = services.draft_invoices(parse_window(clock.now(), range_name="d30"))
print(json.dumps(sorted(invoice.number for invoice in drafted.invoices)))
"""


def window() -> Period:
    return Period(clock.now() - timedelta(days=30), clock.now() + timedelta(minutes=1))


def in_thread(work: Callable[[int], Any]) -> Callable[[int], Any]:
    def run(number: int) -> Any:
        try:
            return work(number)
        finally:
            connection.close()

    return run


def check_books() -> None:
    """What must hold however it came about."""
    live = Invoice.objects.exclude(status="void")
    lines = list(InvoiceLine.objects.filter(invoice__in=live))
    assert sorted(line.lead_id for line in lines) == sorted(
        LeadReservation.objects.values_list("lead_id", flat=True)
    )
    numbers = sorted(Invoice.objects.values_list("number", flat=True))
    assert numbers == [f"INV-{number:06}" for number in range(1, len(numbers) + 1)]
    seqs = list(Change.objects.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(seqs) + 1))


def test_threads_drafting_the_same_window_make_each_invoice_once(make_lead: MakeLead) -> None:
    for number in range(4):
        other = add_customer(f"C{number}", f"c{number}@x.example")
        make_lead(to=other), make_lead(to=other)
    with ThreadPoolExecutor(8) as pool:
        drafted = list(pool.map(in_thread(lambda _: services.draft_invoices(window())), range(16)))
    assert len({tuple(sorted(invoice.number for invoice in one.invoices)) for one in drafted}) == 1
    assert [one.reused for one in drafted].count(False) == 1
    assert Invoice.objects.count() == 4
    check_books()


def test_processes_drafting_the_same_window_make_each_invoice_once(server: Any, make_lead: MakeLead) -> None:
    for number in range(3):
        make_lead(to=add_customer(f"C{number}", f"c{number}@x.example"))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _DRAFT_ALONE],
            env=server.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    outputs = [child.communicate(b"go\n", timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert [json.loads(output) for output in outputs] == [["INV-000001", "INV-000002", "INV-000003"]] * 3
    check_books()


def test_drafting_and_voiding_and_new_leads_at_once(make_lead: MakeLead) -> None:
    customers = [add_customer(f"C{number}", f"c{number}@x.example") for number in range(3)]

    def work(number: int) -> None:
        if number % 3 == 0:
            make_lead(to=customers[number % 2])
        elif number % 3 == 1:
            services.draft_invoices(window())
        else:
            draft = Invoice.objects.filter(status="draft").order_by("?").first()
            if draft is not None:
                services.void_draft(draft.pk)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(in_thread(work), range(36)))
    services.draft_invoices(window())
    assert services.preview_billable(window()) == []
    assert LeadReservation.objects.count() == Lead.objects.count() == 12
    check_books()


def test_two_customers_leads_chosen_line_by_line_at_once(make_lead: MakeLead) -> None:
    leads = [make_lead() for _ in range(6)]
    choices = [[0, 1, 2], [2, 3], [3, 4, 5], [5, 0]]

    def work(number: int) -> int:
        services.draft_lines([services.WantedLine(leads[index].pk) for index in choices[number % 4]])
        return number

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(in_thread(work), range(8)))) == 8
    assert LeadReservation.objects.count() == 6
    check_books()


def test_the_lock_lets_one_in_at_a_time(transactional_db: None) -> None:
    inside, most, guard = 0, 0, threading.Lock()
    busy = Problem(409, "busy", "busy")

    def work(_number: int) -> None:
        nonlocal inside, most
        with exclusive("test", "same", wait=20, busy=busy):
            with guard:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.01)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(in_thread(work), range(12)))
    assert most == 1
    held, release = threading.Event(), threading.Event()

    def hold(_number: int) -> None:
        with exclusive("test", "same", wait=5, busy=busy):
            held.set()
            release.wait(10)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(in_thread(hold), 0)
        held.wait(10)
        with pytest.raises(Problem, match="busy"), exclusive("test", "same", wait=0.1, busy=busy):
            raise AssertionError
        release.set()
        future.result()
