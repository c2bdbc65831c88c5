"""The running house of the fourteen months: the demo's processes in Europe/Berlin, on a clock that stands where
it was put.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from subprocess import run as run_process
from typing import Any
from urllib.parse import urlsplit

import psycopg

from provider_federation.demo.books import InstanceBook
from provider_federation.demo.client import Client, pay_hosted_invoice, wait_until
from provider_federation.demo.plan import InstancePlan, instance_environment, load_or_make, portal_environment
from provider_federation.demo.processes import Child, run_to_end
from provider_federation.demo.world import World
from provider_federation.kit import clock
from provider_federation.stripe_account import StripeInvoice

ZONE = "Europe/Berlin"
_OURS = {
    "PROVIDER_TIME_ZONE": ZONE,
    "PORTAL_BILLING_FOUR_EYES": "1",
    "PORTAL_SYNC_SECONDS": "86400",
    "PORTAL_DISPUTES_SECONDS": "2",
    "PYTHONUNBUFFERED": "1",
    # These are the defaults, said here because the table is written for them.
    "PROVIDER_GRACE_DAYS": "7",
    "PROVIDER_DUNNING_SCHEDULE": "-3,1,7,14,21:escalate",
    "PORTAL_EMAIL_BACKEND": "console",
}
# What the app does in each client's instance (leads come in and convert, AI calls cost money) has no route: it is
# the host app's own code that calls these services.
_HAPPEN = """
import json, os, sys
from datetime import datetime
from decimal import Decimal
os.environ["DJANGO_SETTINGS_MODULE"] = "provider_federation.instance.settings"
import django
django.setup()
from provider_federation.instance.leads.models import Lead, LeadStatus
from provider_federation.instance.leads.services import add_lead, convert_lead
from provider_federation.instance.usage.services import record_ai_usage
for kind, name, at in json.load(sys.stdin):
    moment = datetime.fromisoformat(at)
    if kind == "lead":
        lead = add_lead(name, None, price_cents=None, public_id=name, at=moment)
        convert_lead(lead.pk, at=moment)
    elif kind == "again":
        Lead.objects.filter(public_id=name).update(status=LeadStatus.NEW, converted_at=None)
        convert_lead(Lead.objects.get(public_id=name).pk, at=moment)
    else:
        record_ai_usage("summary", cost=Decimal(name), at=moment)
"""
Happening = tuple[str, str, str]


class House(World):
    """Two clients, A (the first) and B; the first operator plans, the second approves."""

    second: str = ""

    @property
    def a(self) -> InstancePlan:
        return self.plan.instances[0]

    @property
    def b(self) -> InstancePlan:
        return self.plan.instances[1]

    @property
    def second_operator(self) -> Client:
        return Client(self.plan.portal_url, self.second)

    def command(self, *arguments: str, person: str = "first") -> str:
        """One command of the portal's CLI, as this person of the machine."""
        environment = {**self._with_ours(portal_environment(self.plan, self.database_url)), "LOGNAME": person}
        return run_to_end("portal", arguments, environment)

    def portal_command(self, *arguments: str, typed: str = "") -> str:
        environment = {
            **self._with_ours(portal_environment(self.plan, self.database_url)),
            "LOGNAME": "first",
        }
        return run_to_end("portal", arguments, environment, typed=typed)

    def make_second_operator(self) -> None:
        made = self.command("portal", "token", "make", "second", "--role", "admin", person="second")
        self.second = made.split()[-1]

    def happen(self, client: InstancePlan, happenings: list[Happening]) -> None:
        """Let these things have happened in a client's app, each at its own time."""
        environment = {**os.environ, **self._with_ours(instance_environment(self.plan, client))}
        done = run_process(
            [sys.executable, "-c", _HAPPEN],
            env=environment,
            input=json.dumps(happenings),
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    def go_to(self, moment: str) -> None:
        """Everything that is due by then happens at its own time, and the portal hears of all of it."""
        at = datetime.fromisoformat(moment)
        clock.set_clock(self.plan.clock_file, at=at)
        self.stripe("/_sim/clock/advance")
        self.settle()

    def stripe(self, path: str, **body: Any) -> dict[str, Any]:
        """A lever of the simulator."""
        return Client(self.plan.stripe_url).post(path, body)

    def settle(self) -> None:
        """Until every event was delivered and applied; none may be parked."""
        self.stripe("/_sim/webhooks/flush", attempts=3)
        wait_until("the events to be applied", self._applied, timeout=30)

    def _applied(self) -> bool:
        events = self.portal.get("/api/provider/reports/owed")["coverage"]["events"]
        assert events["parked"] == 0, events
        return bool(events["waiting"] == 0)

    def pay(self, invoice: StripeInvoice) -> None:
        """On the hosted page, as a customer does."""
        pay_hosted_invoice(invoice.hosted_invoice_url or "")

    def book(self, client: InstancePlan) -> InstanceBook:
        return InstanceBook(client)

    def log(self, name: str) -> str:
        """What a process said."""
        return self.child(name).log.read_text(errors="replace")

    # --- how it comes up

    def _start_database(self) -> None:
        self.database_url = self._database

    def _seed_instance(self, instance: InstancePlan) -> None:
        self._migrate_instance(instance)
        self._add_owner(instance)

    def _migrate_instance(self, instance: InstancePlan) -> None:
        run_to_end(
            instance.name, ["instance", "migrate"], self._with_ours(instance_environment(self.plan, instance))
        )

    def _child(
        self, name: str, arguments: list[str], environment: dict[str, str], ready_url: str | None
    ) -> Child:
        return super()._child(name, arguments, self._with_ours(environment), ready_url)

    def _with_ours(self, environment: Mapping[str, str]) -> dict[str, str]:
        return {**environment, **_OURS}

    _database: str = ""


@contextmanager
def running_house(folder: Path, begin: str) -> Iterator[House]:
    """From `begin` on, and until the block is left."""
    server, name = os.environ["TEST_POSTGRES_URL"], f"fourteen_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    house = House(load_or_make(folder, fleet=2, port=0, months=0, leads=0), _say_nothing)
    house._database = urlsplit(server)._replace(path=f"/{name}").geturl()
    before = os.environ.get(clock.CLOCK_VARIABLE)
    try:
        house.up(history_from=datetime.fromisoformat(begin))
        house.make_second_operator()
        clock.set_clock(house.plan.clock_file, at=datetime.fromisoformat(begin))
        os.environ[clock.CLOCK_VARIABLE] = str(
            house.plan.clock_file
        )  # what this process signs is of that time
        house.introduce_instances()
        yield house
    finally:
        house.supervisor.stop()
        if before is None:
            os.environ.pop(clock.CLOCK_VARIABLE, None)
        else:
            os.environ[clock.CLOCK_VARIABLE] = before
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _say_nothing(_line: str) -> None:
    """For a house that nobody listens to."""
