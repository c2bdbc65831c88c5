"""What a client may use: after a grace period less, when it pays again all, and its instance knows the newest."""

from __future__ import annotations

import json
import random
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.integration.portal.revenue.rig import forget_jobs, jobs
from tests.integration.portal.subscriptions.moves import moment

from provider_federation.money.plans import BASE, PLANS, Limits, entitled_to
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions import publishing
from provider_federation.portal.subscriptions.entitlements import update_arrears, update_entitlement
from provider_federation.portal.subscriptions.jobs import PUBLISH, defer_unfinished
from provider_federation.portal.subscriptions.models import Entitlement

URL = "/api/provider/billing/entitlements"


class Told:
    """An instance's `POST /api/federation/entitlements`, as the contract has it; `faults` are its next answers."""

    def __init__(self) -> None:
        self.version = 0
        self.told: list[dict[str, Any]] = []
        self.signed: list[str] = []
        self.faults: list[tuple[int, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.signed.append(self.headers.get("X-Provider-Signature", ""))
                status, answer = outer.faults.pop(0) if outer.faults else outer.take(body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.told.append(body)
        applied = body["version"] > self.version
        self.version = max(self.version, body["version"])
        return 200, {"ok": True, "applied": applied, "version": self.version}


@pytest.fixture
def told(grow):
    """The instance of `ada`, which takes entitlements."""
    _, ada = grow("ada")
    made = Told()
    Instance.objects.filter(pk=ada.pk).update(base_url=f"http://127.0.0.1:{made.server.server_port}")
    yield made
    made.server.shutdown()
    made.server.server_close()


def row() -> Entitlement:
    return Entitlement.objects.select_related("instance").get()


def publish() -> Entitlement:
    publishing.publish_entitlement(row().pk)
    return row()


@pytest.mark.parametrize(
    ("plan", "arrears", "state", "limits", "support"),
    [
        ("BASE", False, "base", Limits(100, 3, 1_000), "community"),
        ("BASE", True, "base", Limits(100, 3, 1_000), "community"),
        ("PRO", False, "full", Limits(1_000, 10, 5_000), "email"),
        ("PRO", True, "restricted", Limits(100, 3, 1_000), "community"),
        ("ELITE", False, "full", Limits(None, None, 25_000), "priority"),
        ("ELITE", True, "restricted", Limits(100, 3, 1_000), "community"),
    ],
)
def test_what_each_plan_gives(plan, arrears, state, limits, support):
    given = entitled_to(PLANS[plan], in_arrears=arrears)
    assert (given.state, given.limits, given.support, given.plan.code) == (state, limits, support, plan)
    assert entitled_to(BASE).state == "base"


def test_a_failed_payment_restricts_after_the_grace_period_and_a_payment_restores(desk, told):
    """Renewal on 10 April 12:00, its invoice final at 13:00 and declined: seven days later BASE's limits are left."""
    made = desk.subscribe()
    first = publish()
    assert (first.version, first.state, first.leads, first.acknowledged) == (1, "full", 1_000, True)
    desk.break_card()
    desk.go("2026-04-10T14:00:00")
    assert desk.shown(made)["subscription"]["status"] == "past_due"
    shown = desk.shown(made)["entitlement"]
    assert (shown["state"], shown["graceUntil"]) == ("full", "2026-04-17T13:00:00Z")
    desk.go("2026-04-17T12:59:59")
    update_arrears()
    assert row().version == 1
    desk.go("2026-04-17T13:00:00")
    update_arrears()
    assert (row().state, row().plan, row().leads, row().version) == ("restricted", "PRO", 100, 2)
    assert publish().acknowledged
    assert [one["state"] for one in told.told] == ["full", "restricted"]
    overdue = next(one["id"] for one in desk.books.invoices() if one["status"] == "open")
    desk.pay(overdue)
    assert desk.shown(made)["subscription"]["status"] == "active"
    assert (row().state, row().leads, row().version) == ("full", 1_000, 3)


@pytest.mark.parametrize(
    ("outcome", "plan", "state"), [("unpaid", "PRO", "restricted"), ("cancel", "BASE", "base")]
)
def test_when_the_retries_end_stripes_settings_decide(desk, told, outcome, plan, state):
    desk.books.simulator.control("account", key=desk.books.key, after_retries=outcome)
    made = desk.subscribe()
    desk.break_card()
    desk.go("2026-04-10T14:00:00")
    desk.go("2026-04-28T14:00:00")
    update_arrears()
    assert desk.shown(made)["subscription"]["status"] == ("unpaid" if outcome == "unpaid" else "canceled")
    assert (row().plan, row().state) == (plan, state)


def test_a_message_is_signed_and_says_everything(desk, told):
    desk.subscribe(plan="ELITE")
    publish()
    assert told.signed[0].startswith("sha256:")
    assert told.told == [
        {
            "version": 1,
            "plan": "ELITE",
            "state": "full",
            "limits": {"leads": None, "users": None, "aiCredits": 25_000},
            "support": "priority",
            "validFrom": "2026-03-10T12:00:00Z",
        }
    ]
    publish()
    assert len(told.told) == 1, "what is confirmed is not sent again"


@pytest.mark.parametrize(
    "fault", [(500, {"ok": False, "error": "x", "reason": "internal_error"}), (404, {}), (200, {"ok": True}), (200, {"ok": True, "version": 0})]
)  # fmt: skip
def test_what_is_not_confirmed_is_told_again_later(desk, told, api, at, fault):
    desk.subscribe()
    told.faults = [fault] * 3
    failed = publish()
    assert (failed.acknowledged, failed.failures) == (False, 1)
    assert failed.last_code
    shown = api.get(f"{URL}?acknowledged=false").json()
    assert (shown["items"][0]["acknowledged"], shown["coverage"]["complete"]) == (False, False)
    assert (shown["coverage"]["acknowledged"], shown["coverage"]["of"], shown["coverage"]["failing"]) == (
        0,
        1,
        1,
    )
    forget = Entitlement.objects.filter(due_at__lte=moment("2026-03-10T12:00:00")).count()
    assert forget == 0, "not at once"
    at(failed.due_at + timedelta(seconds=1))
    told.faults = []
    defer_unfinished()
    assert publish().acknowledged
    assert api.get(URL).json()["coverage"]["complete"] is True


def test_order_and_loss_do_not_matter(desk, told):
    """Versions told in any order, some lost: the instance ends with the newest, and the portal knows it."""
    desk.subscribe()
    instance = row().instance
    for seed in range(5):
        chance = random.Random(seed)
        for plan in chance.sample(["PRO", "ELITE", "PRO", "ELITE"], 4):
            instance.subscriptions.update(plan=plan)
            update_entitlement(instance)
            if chance.random() < 0.5:
                publish()
        late = dict(told.told[0]) if told.told else {"version": 1}
        told.take(late)
        assert publish().acknowledged
        assert told.version == row().version


def test_a_portal_restored_from_a_backup_speaks_above_what_it_had_said(desk, told):
    desk.subscribe()
    told.version = 41
    publish()
    assert (row().version, row().acknowledged) == (42, False)
    assert publish().acknowledged
    assert (told.version, told.told[-1]["plan"]) == (42, "PRO")


@pytest.mark.parametrize("version", [10**30, 2**53, 7_000])
def test_an_instance_that_always_knows_better_keeps_nobody_talking(desk, told, version):
    desk.subscribe()
    forget_jobs()
    told.faults = [(200, {"ok": True, "version": version})]
    answered = publish()
    assert (answered.failures, answered.acknowledged, jobs(PUBLISH)) == (1, False, 0)


def test_a_person_may_have_it_told_again(desk, told, api):
    desk.subscribe()
    publish()
    answer = api.post(f"{URL}/org_ada/publish", content_type="application/json")
    assert (answer.status_code, answer.json()["entitlement"]["acknowledged"]) == (202, False)
    assert publish().acknowledged
    Instance.objects.update(enabled=False)
    assert (
        api.post(f"{URL}/org_ada/publish", content_type="application/json").json()["reason"]
        == "instance_disabled"
    )
    assert api.post(f"{URL}/nobody/publish", content_type="application/json").status_code == 404
