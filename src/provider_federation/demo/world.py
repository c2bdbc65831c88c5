"""Bringing the demo's processes up: database, simulator, portal, worker, instances; and giving them what
they need to know.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from provider_federation.demo.client import CallFailed, Client, sign_in, wait_until
from provider_federation.demo.plan import (
    DemoPlan,
    InstancePlan,
    instance_environment,
    portal_environment,
    shared_environment,
)
from provider_federation.demo.processes import Child, Supervisor, require_free, run_to_end
from provider_federation.kit import clock
from provider_federation.money import PLANS, Plan
from provider_federation.portal.database import embedded_database, release_embedded_databases
from provider_federation.protocol.pairing import public_text
from provider_federation.stripe_account import StripeAccount, ensure_price

_AT_ONCE = 4
_RUN_SECONDS = 120.0
_PROVIDER_EVENTS = (
    "customer.subscription.created", "customer.subscription.updated", "customer.subscription.deleted",
    "invoice.finalized", "invoice.sent", "invoice.paid", "invoice.payment_failed", "invoice.voided",
    "invoice.marked_uncollectible", "invoice.updated",
)  # fmt: skip
_CLIENT_EVENTS = (
    "invoice.finalized", "invoice.sent", "invoice.paid", "invoice.payment_failed", "invoice.voided",
    "invoice.marked_uncollectible",
)  # fmt: skip


@dataclass
class World:
    """The running demo. `say` tells the person at the terminal what happens."""

    plan: DemoPlan
    say: Callable[[str], None]
    supervisor: Supervisor = field(init=False)
    database_url: str = ""

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.say)

    @property
    def portal(self) -> Client:
        return Client(self.plan.portal_url, self.plan.token)

    def colleague(self) -> Client:
        """The second person, signed in."""
        return sign_in(self.plan.portal_url, self.plan.colleague, self.plan.colleague_password)

    @property
    def provider_account(self) -> StripeAccount:
        return StripeAccount(self.plan.provider_stripe_key, api_base=self.plan.stripe_url)

    def client_account(self, instance: InstancePlan) -> StripeAccount:
        return StripeAccount(instance.stripe_key, api_base=self.plan.stripe_url)

    def up(self, *, history_from: datetime | None) -> None:
        """Start everything; when the plan is new, prepare it first (the clock then begins at `history_from`; None: now)."""
        self._require_ports()
        self._start_database()
        if self.plan.prepared:
            self.real_time()
            self._start_simulator()
            self._on_each(self._migrate_instance)  # the data may be of an older version
        else:
            self._prepare(history_from)
        self._start_services()

    def down(self) -> None:
        self.supervisor.stop()
        release_embedded_databases()

    def travel(self, moment: datetime) -> None:
        """Move every process's clock; it runs on from there. The simulator then does what has come due
        (renewals).
        """
        clock.set_clock(self.plan.clock_file, offset=(moment - _really_now()).total_seconds())
        Client(self.plan.stripe_url).post("/_sim/clock/advance")

    def travel_to_now(self) -> None:
        """Back to the real time; what comes due on the way (renewals) is done."""
        self.travel(_really_now())

    def real_time(self) -> None:
        clock.set_clock(self.plan.clock_file, offset=0.0)

    def child(self, name: str) -> Child:
        return next(child for child in self.supervisor.children if child.name == name)

    # --- first the ground

    def _require_ports(self) -> None:
        require_free(self.plan.portal_port, "the portal")
        require_free(self.plan.stripe_port, "the Stripe simulator")
        for instance in self.plan.instances:
            require_free(instance.port, instance.name)

    def _start_database(self) -> None:
        self.database_url = embedded_database(self.plan.folder / "postgres")

    def _start_simulator(self) -> None:
        arguments = [
            "stripe-sim",
            "--port",
            str(self.plan.stripe_port),
            "--data",
            str(self.plan.folder / "stripe.sqlite3"),
        ]
        simulator = self._child(
            "stripe", arguments, shared_environment(self.plan), f"{self.plan.stripe_url}/_sim/state"
        )
        self.supervisor.wait_ready(simulator)

    # --- once per data folder

    def _prepare(self, history_from: datetime | None) -> None:
        self.real_time()
        self._on_each(self._seed_instance)
        if history_from is not None:
            clock.set_clock(self.plan.clock_file, offset=(history_from - _really_now()).total_seconds())
        self._start_simulator()
        self._open_accounts()
        self._add_operator(self.plan.operator, "admin", "Demo Admin", self.plan.operator_password)
        self._add_operator(self.plan.colleague, "billing", "Demo Billing", self.plan.colleague_password)
        self.plan.token = self.portal_command("portal", "token", "make", "demo", "--role", "admin").split()[
            -1
        ]
        self.plan.save()

    def _add_operator(self, email: str, role: str, name: str, password: str) -> None:
        added = ["portal", "user", "add", email, "--role", role, "--name", name, "--password-stdin"]
        self.portal_command(*added, typed=password)

    def _on_each(self, job: Callable[[InstancePlan], None]) -> None:
        """`job` on every instance, and meanwhile the portal's migration."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            jobs: list[Future[Any]] = [pool.submit(self.portal_command, "portal", "migrate")]
            jobs += [pool.submit(job, instance) for instance in self.plan.instances]
            for one in jobs:
                one.result()

    def _migrate_instance(self, instance: InstancePlan) -> None:
        run_to_end(instance.name, ["instance", "migrate"], instance_environment(self.plan, instance))

    def _seed_instance(self, instance: InstancePlan) -> None:
        environment = instance_environment(self.plan, instance)
        self._migrate_instance(instance)
        seed = [
            "instance",
            "seed",
            "--leads",
            str(self.plan.leads),
            "--months",
            str(self.plan.months),
            "--seed",
            str(instance.seed),
        ]
        run_to_end(instance.name, seed, environment)
        self._add_owner(instance)

    def _add_owner(self, instance: InstancePlan) -> None:
        name = f"{instance.title} owner"
        user = ["instance", "user", "add", instance.owner, "--role", "owner", "--name", name]
        environment = {
            **instance_environment(self.plan, instance),
            "INSTANCE_USER_PASSWORD": instance.password,
        }
        run_to_end(instance.name, user, environment)

    def portal_command(self, *arguments: str, typed: str = "") -> str:
        return run_to_end("portal", arguments, portal_environment(self.plan, self.database_url), typed=typed)

    def _open_accounts(self) -> None:
        """Prices and webhook endpoints, in the provider's account and in each client's."""
        account = self.provider_account
        self.plan.prices = {code: _price(account, plan) for code, plan in PLANS.items()}
        endpoint = account.create_webhook_endpoint(
            f"{self.plan.portal_url}/api/webhooks/provider-stripe",
            _PROVIDER_EVENTS,
            idempotency_key="demo-endpoint",
        )
        self.plan.webhook_secret = endpoint.secret or ""
        self.plan.instances = [self._with_endpoint(instance) for instance in self.plan.instances]

    def _with_endpoint(self, instance: InstancePlan) -> InstancePlan:
        endpoint = self.client_account(instance).create_webhook_endpoint(
            f"{instance.base_url}/api/webhooks/stripe", _CLIENT_EVENTS, idempotency_key="demo-endpoint"
        )
        return replace(instance, webhook_secret=endpoint.secret or "")

    # --- then the house

    def _start_services(self) -> None:
        environment = portal_environment(self.plan, self.database_url)
        web = self._child(
            "portal",
            ["portal", "serve", "--port", str(self.plan.portal_port)],
            environment,
            f"{self.plan.portal_url}/health/ready",
        )
        worker = self._child("worker", ["portal", "worker"], environment, None)
        instances = [
            self._child(
                instance.name,
                ["instance", "serve", "--port", str(instance.port)],
                instance_environment(self.plan, instance),
                f"{instance.base_url}/health/ready",
            )
            for instance in self.plan.instances
        ]
        self.supervisor.wait_ready(web, worker, *instances, timeout=60 + 3 * len(instances))
        self.supervisor.keep_alive()

    def _child(
        self, name: str, arguments: list[str], environment: dict[str, str], ready_url: str | None
    ) -> Child:
        return self.supervisor.start(
            Child(name, arguments, environment, self.plan.folder / "logs" / f"{name}.log", ready_url)
        )

    # --- what the portal has to know about its clients

    def introduce_instances(self) -> None:
        """Add each instance to the portal's directory, as an operator would; what is there already stays."""
        known = {item["name"] for item in self.portal.pages("/api/provider/instances", limit=200)}
        for instance in self.plan.instances:
            if instance.name not in known:
                self._introduce(instance)

    def _introduce(self, instance: InstancePlan) -> None:
        added = self.portal.post(
            "/api/provider/instances",
            {
                "name": instance.name, "title": instance.title, "clientOrgId": instance.org, "baseUrl": instance.base_url,
                "environment": "demo", "billingEmail": f"accounts@{instance.name}.example", **self._way_in(instance),
            },
        )  # fmt: skip
        if not added["instance"]["check"]["ok"]:
            raise CallFailed(f"{instance.name} was added, but its check failed: {added['instance']['check']}")

    def _way_in(self, instance: InstancePlan) -> dict[str, Any]:
        """By the owner's code where there is one, else with the key that both sides have from the start."""
        if instance.enrolled:
            environment = instance_environment(self.plan, instance)
            return {"enrolmentCode": run_to_end(instance.name, ["instance", "invite"], environment).strip()}
        key = {"id": instance.key_id, "algorithm": instance.key.algorithm, "secret": instance.secret}
        answers = [{"id": key.id, "publicKey": public_text(key)} for key in instance.answers]
        return {"key": {**key, "scope": "provider"}, "responseKey": answers[0] if answers else None}

    def run_fleet(self, action: str, params: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """Start one action over all instances, wait for the end, and return the result of each; CallFailed
        when one failed.
        """
        body = {"action": action, "all": True, "params": params or {}}
        run = self.portal.post("/api/provider/fleet", body)["run"]
        address = f"/api/provider/fleet/{run['id']}"
        done = partial(self._is_done, address)
        wait_until(f"the {action} run", done, timeout=_RUN_SECONDS)
        calls: list[dict[str, Any]] = self.portal.get(address, limit=200)["calls"]
        failed = [
            f"{call['instance']}: {call['sentence']} [{call['reason']}]"
            for call in calls
            if call["status"] != "ok"
        ]
        if failed:
            raise CallFailed(f"the {action} run failed at " + "; ".join(failed))
        return calls

    def _is_done(self, address: str) -> bool:
        return bool(self.portal.get(address)["run"]["status"] == "done")

    def sync(self) -> None:
        """Ask for the changes now. A worker that is being started again may lose nothing, so asking once
        is enough.
        """
        with suppress(CallFailed):
            self.portal.post("/api/provider/fleet/sync")


def _price(account: StripeAccount, plan: Plan) -> str:
    name = f"{plan.code.title()} plan"
    return ensure_price(
        account, lookup_key=plan.code.lower(), product_name=name, unit_amount=plan.fee_cents
    ).id


def _really_now() -> datetime:
    """The machine's own time: the demo's own process has no clock file."""
    return clock.now()


def month_starts(months: int, *, before: datetime) -> list[datetime]:
    """The first days of the last `months` whole months, oldest first (UTC)."""
    first = before.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    starts: list[datetime] = []
    for _ in range(months):
        first = (first - timedelta(days=1)).replace(day=1)
        starts.insert(0, first)
    return starts
