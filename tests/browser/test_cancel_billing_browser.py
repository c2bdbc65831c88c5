"""A billing run that is cancelled while it executes: a real worker, a Stripe that takes its time, the API and the page.

What was billed stays billed, the rest is visibly not billed, and a new run of the month takes up the rest.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from playwright.sync_api import expect
from tests.browser.portal_rig import (
    CHROMIUM,
    IN_CI,
    PHONE,
    ROOT,
    SECONDS,
    STRIPE_KEY,
    address_of,
    clean_environment,
    fresh_database,
    process,
    run,
)
from tests.browser.portal_seed import BILLING
from tests.browser.test_portal_browser import months_back
from tests.integration.portal.revenue.usage_instance import UsageInstance

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not IN_CI,
        reason="no Chromium here: install chromium, or set CHROMIUM to its path",
    ),
]
WAIT = SECONDS * 1000
CLIENTS = 24
"""Three jobs of a worker that does one at a time; the first of them holds eight or ten clients."""
BY_API, BY_PAGE = months_back(1), months_back(2)


@dataclass
class Program:
    """What holds a token at the portal's API, and looks into its Stripe account."""

    base: str
    token: str
    stripe: str

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(
            method,
            f"{self.base}/api/provider/billing/runs{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=20,
        )
        assert answer.status_code < 300, answer.text
        return answer.json()

    def until(self, path: str, wanted: Any) -> Any:
        """The run, as soon as it is as wanted."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            seen = self.ask("GET", path)
            if wanted(seen):
                return seen
            time.sleep(0.05)  # a real worker in another process
        raise AssertionError(seen)

    def one(self, path: str, state: str) -> str:
        """The title of a client of the run in this state."""
        [found] = self.ask("GET", f"{path}/items?state={state}&limit=1")["items"]
        return f"{found['clientOrgId'].removeprefix('org_').title()} Ltd"

    def planned(self, month: str) -> tuple[str, Any]:
        path = f"/{self.ask('POST', '', {'period': month})['run']['id']}"
        seen = self.until(path, lambda one: one["run"]["status"] == "planned")
        return path, self.ask("POST", f"{path}/approve", {"planHash": seen["run"]["planHash"]})

    def takes(self, seconds: float) -> None:
        """How long Stripe thinks before it makes an invoice final."""
        requests.delete(f"{self.stripe}/_sim/faults", timeout=10)
        if seconds:
            wanted = {"kind": "slow", "path": "/v1/invoices/*/finalize", "seconds": seconds, "count": 1000}
            requests.post(f"{self.stripe}/_sim/faults", json=wanted, timeout=10).raise_for_status()

    def billed(self, month: str) -> Counter[str]:
        """How many invoices each customer has for leads of the month."""
        found: list[Any] = []
        while True:
            after = f"&starting_after={found[-1]['id']}" if found else ""
            page = requests.get(
                f"{self.stripe}/v1/invoices?limit=100{after}",
                headers={"Authorization": f"Bearer {STRIPE_KEY}"},
                timeout=20,
            ).json()
            found += page["data"]
            if not page["has_more"]:
                break
        assert {one["status"] for one in found} <= {"open"}
        return Counter(one["customer"] for one in found if month in one["lines"]["data"][0]["description"])


class Client(UsageInstance):
    """Knows its usage and nothing else."""

    def answer(self, target: str) -> tuple[int, dict[str, Any]]:
        if target.startswith("/api/provider/usage?"):
            return super().answer(target)
        return 404, {"ok": False, "error": "There is nothing here.", "reason": "not_found"}


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, UsageInstance]]:
    made = {f"client{number:02d}": Client(f"org_client{number:02d}") for number in range(CLIENTS)}
    for one in made.values():
        for month in (BY_API, BY_PAGE):
            one.uses(month, 1)
    yield made
    for one in made.values():
        one.stop()


@pytest.fixture(scope="module")
def program(tmp_path_factory, clients, stripe) -> Iterator[Program]:
    """A portal over these clients, and a worker that does one job at a time."""
    database = fresh_database()
    environment = clean_environment() | {
        "DATABASE_URL": next(database),
        "PORTAL_DATA_DIR": str(tmp_path_factory.mktemp("portal")),
        "PORTAL_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "PORTAL_BILLING_LATE_MONTHS": "0",
        "STRIPE_API_BASE": stripe.url,
        "PROVIDER_STRIPE_SECRET_KEY": STRIPE_KEY,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "provider_federation.portal.settings",
    }
    run(environment, "portal", "migrate")
    seeded = subprocess.run(
        [sys.executable, "-m", "tests.browser.billing_seed"],
        cwd=ROOT,
        env=environment,
        input=json.dumps({name: one.url for name, one in clients.items()}),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    with (
        process(environment, "portal", "serve", "--port", "0") as web,
        process(environment, "portal", "worker", "--concurrency", "1") as worker,
    ):
        assert worker.stderr is not None
        threading.Thread(target=worker.stderr.read, daemon=True).start()
        yield Program(address_of(web), seeded.stdout.strip(), stripe.url)
    next(database, None)


@pytest.fixture(scope="module")
def portal(program) -> str:
    """In the place of the other file's portal: `desk` sits at this one."""
    return program.base


def states(seen: Any) -> dict[str, int]:
    return seen["report"]["states"]


def test_by_the_api_what_was_billed_stays_and_a_new_run_takes_the_rest(program):
    path, _ = program.planned(BY_API)
    program.takes(0.5)
    program.ask("POST", f"{path}/execute")
    program.until(path, lambda one: states(one).get("placing"))
    told = program.ask("POST", f"{path}/cancel")
    assert told["run"]["status"] == "cancelled"
    over = program.until(path, lambda one: one["run"]["finishedAt"])
    count = states(over)["billed"]
    assert states(over) == {"billed": count, "cancelled": CLIENTS - count}
    assert 0 < count < CLIENTS
    assert over["report"]["totals"][0]["billedCents"] == count * 10_000
    assert sum(program.billed(BY_API).values()) == count
    program.takes(0)
    rest, approved = program.planned(BY_API)
    assert states(approved) == {"already": count, "ready": CLIENTS - count}
    program.ask("POST", f"{rest}/execute")
    done = program.until(rest, lambda one: one["run"]["status"] == "done")
    assert states(done) == {"already": count, "billed": CLIENTS - count}
    assert set(program.billed(BY_API).values()) == {1}
    assert len(program.billed(BY_API)) == CLIENTS


def test_by_the_page_whose_rows_are_live(program, desk):
    path, _ = program.planned(BY_PAGE)
    visitor = desk(BILLING)
    page = visitor.page
    visitor.open(f"/billing-runs{path}/?sort=client")
    page.evaluate("window.sameDocument = true")
    program.takes(1)
    page.get_by_role("button", name="Bill what was approved").click()
    program.until(path, lambda one: states(one).get("placing"))
    first = page.get_by_role("row").filter(has_text=program.one(path, "placing"))
    expect(first).to_contain_text("Being placed", timeout=WAIT)
    page.evaluate("window.sameDocument = true")
    other = "Client05 Ltd"
    page.get_by_role("link", name=other).focus()
    expect(first).to_contain_text("Billed", timeout=WAIT)
    assert page.evaluate("window.sameDocument"), "the rows changed in the page as it was"
    assert page.evaluate("document.activeElement.textContent") == other, "and took no focus away"
    page.get_by_text("Cancel the run …").click()
    page.get_by_role("button", name="Yes, cancel it").click()
    said = page.get_by_role("status").filter(has_text="of this month")
    expect(said).to_contain_text("A new plan of the month takes up the rest", timeout=WAIT)
    visitor.holds("the cancelled run")
    seen = program.ask("GET", path)
    count = states(seen)["billed"]
    assert states(seen) == {"billed": count, "cancelled": CLIENTS - count}
    expect(said).to_contain_text(f"{CLIENTS - count} clients of this month are not billed")
    stopped = page.get_by_role("row").filter(has_text=program.one(path, "cancelled"))
    expect(stopped).to_contain_text("Cancelled")
    page.set_viewport_size(PHONE)
    visitor.holds("the cancelled run on a phone")
    program.takes(0)
    visitor.open("/billing-runs/")
    page.get_by_label("Month").select_option(BY_PAGE)
    page.get_by_role("button", name="Plan this month").click()
    page.get_by_role("link", name="Approve …").click(timeout=WAIT)
    page.get_by_role("button", name="Approve this plan").click()
    page.get_by_role("button", name="Bill what was approved").click()
    expect(page.get_by_text("Done", exact=True)).to_be_visible(timeout=WAIT)
    expect(page.get_by_text(re.compile(f"{count} invoiced already"))).to_be_visible()
    visitor.holds("the second run")
    assert set(program.billed(BY_PAGE).values()) == {1}
    assert len(program.billed(BY_PAGE)) == CLIENTS
