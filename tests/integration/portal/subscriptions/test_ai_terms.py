"""The cap and the markup of a client's AI usage: set by a route or the page, in force from a month that has not begun."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.test import Client
from tests.integration.portal.revenue.rig import run_jobs

from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.operators.services import add_operator, create_token
from provider_federation.portal.subscriptions.models import CapChange

URL = "/api/provider/billing/ai-terms/org_ada"


def put(api, url=URL, **body):
    return api.put(url, {"capCents": 8_000, "markup": "0.1", **body}, content_type="application/json")


def invoice(api, month, last):
    body = {"clientOrgId": "org_ada", "periodStart": f"{month}-01", "periodEnd": f"{month}-{last}"}
    answer = api.post("/api/provider/billing/revenue", body, content_type="application/json")
    return answer.json()["invoice"]["totalCents"]


def test_they_price_the_next_month_and_no_month_before(books, grow, api, at):
    usage, ada = grow("ada")
    for month in ("2026-02", "2026-03", "2026-04"):
        usage.uses(month, 0, "70.00")
    made = put(api)
    assert (made.status_code, made.json()["reused"], made.json()["terms"]["from"]) == (200, False, "2026-04")
    assert put(api).json()["reused"] is True
    assert invoice(api, "2026-02", "28") == 5_000  # the cap from before
    at(datetime(2026, 5, 2, tzinfo=UTC))
    assert invoice(api, "2026-03", "31") == 5_000  # it ran when the new terms were set
    assert invoice(api, "2026-04", "30") == 7_700
    run_jobs()
    usage.uses("2026-05", 0, "90.00")
    at(datetime(2026, 6, 2, tzinfo=UTC))
    assert invoice(api, "2026-05", "31") == 8_000
    seen = api.get(URL).json()
    assert seen["inForce"] == {"month": "2026-06", "capCents": 8_000, "markup": "0.1"}
    assert (seen["upcoming"], [row["from"] for row in seen["history"]]) == ([], ["2026-04", "2026-03"])
    ada.refresh_from_db()
    assert ada.ai_cap_cents == 8_000
    [event] = AuditEvent.objects.filter(kind="subscription.ai_terms_set")
    assert (event.facts["before"], event.facts["after"]) == (
        {"cap_cents": 5_000, "markup": "0"},
        {"cap_cents": 8_000, "markup": "0.1"},
    )


def test_a_later_word_takes_the_place_of_what_waits(grow, api, at):
    _, ada = grow("ada")
    assert put(api, **{"from": "2026-08"}).json()["terms"]["from"] == "2026-08"
    sooner = put(api, capCents=3_000, markup="0", **{"from": "2026-05"}).json()
    assert (sooner["reused"], sooner["terms"]["from"]) == (False, "2026-05")
    seen = api.get(URL).json()
    assert seen["inForce"] == {"month": "2026-03", "capCents": 5_000, "markup": "0"}
    assert [(row["from"], row["capCents"]) for row in seen["upcoming"]] == [("2026-05", 3_000)]
    assert [row["superseded"] for row in seen["history"]] == [False, True, False]
    ada.refresh_from_db()
    ada.title = "Ada & Sons"
    ada.save()  # an edit that leaves the cap alone is no word about it
    assert CapChange.objects.count() == 3
    at(datetime(2026, 3, 11, tzinfo=UTC))
    ada.ai_cap_cents = 6_000
    ada.save()  # an edit of the cap holds from the next month on, and keeps the markup
    seen = api.get(URL).json()
    assert [(row["from"], row["superseded"]) for row in seen["history"]] == [
        ("2026-04", False),
        ("2026-05", True),
        ("2026-08", True),
        ("2026-03", False),
    ]


@pytest.mark.parametrize(
    ("given", "status", "reason"),
    [
        ({"markup": "1.0001"}, 400, "invalid_field"),
        ({"markup": "0.00001"}, 400, "invalid_field"),
        ({"markup": "-0.1"}, 400, "invalid_field"),
        ({"markup": "1e-1"}, 400, "invalid_field"),
        ({"markup": "NaN"}, 400, "invalid_field"),
        ({"markup": 0.1}, 400, "invalid_field"),
        ({"capCents": -1}, 400, "invalid_field"),
        ({"capCents": 100_000_000}, 400, "invalid_field"),
        ({"capCents": "800"}, 400, "invalid_field"),
        ({"capCents": True}, 400, "invalid_field"),
        ({"from": "2026-03"}, 409, "month_begun"),
        ({"from": "1970-01"}, 409, "month_begun"),
        ({"from": "2028-05"}, 400, "invalid_field"),
        ({"from": "2026-13"}, 400, "bad_date"),
        ({"from": "2026-4 "}, 400, "invalid_field"),
        ({"currency": "usd"}, 400, "unknown_field"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(grow, api, given, status, reason):
    grow("ada")
    answer = put(api, **given)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason), answer.json()
    assert CapChange.objects.count() == 1


def test_the_edges_are_taken_and_readers_do_not_write(grow, api):
    grow("ada")
    assert put(api, capCents=0, markup="1", **{"from": "2028-04"}).status_code == 200
    assert put(api, capCents=99_999_999, markup="0.0001").status_code == 200
    _, secret = create_token(name="reader", role="support", actor="system")
    reader = Client(headers={"Authorization": f"Bearer {secret}"})
    assert put(reader).status_code == 403
    assert put(api, "/api/provider/billing/ai-terms/org_nobody").status_code == 404
    assert api.get("/api/provider/billing/ai-terms/org_nobody").status_code == 404


def test_on_the_page(grow, api):
    _, ada = grow("ada")
    browser = Client()
    operator = add_operator(email="b@example.com", password="correct horse", role="billing", actor="system")
    browser.force_login(operator, backend="allauth.account.auth_backends.AuthenticationBackend")
    address = f"/instances/{ada.pk}/ai-terms/"
    assert "$50.00" in browser.get(address).content.decode()
    form = {"cap": "80.00", "markup": "12.5", "first_month": "2026-05"}
    shown = browser.post(f"{address}set/", form, follow=True).content.decode()
    assert "hold from May 2026" in shown
    assert "12.5 %" in shown
    assert "hold already" in browser.post(f"{address}set/", form, follow=True).content.decode()
    late = browser.post(f"{address}set/", {**form, "first_month": "2026-03"}).content.decode()
    assert "Select a valid choice" in late
    assert (
        "less than or equal to 100"
        in browser.post(f"{address}set/", {**form, "markup": "101"}).content.decode()
    )
    assert CapChange.objects.count() == 2
