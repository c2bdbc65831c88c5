"""One valid request for every route of the OpenAPI files. A route without one fails the tests of bad input."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.attacks.bad_input_world import Service, last_month, stripe_signature

from provider_federation.protocol.pairing import new_code

_NUMBERS = itertools.count(1)
_SECRET = secrets.token_urlsafe(32)


def _nothing(_service: Service) -> Any:
    return None


@dataclass(frozen=True)
class Sample:
    """`body` makes the JSON value (None: the route takes none); `path` and `query` name facts of the service with `$`.

    `answers` are the good statuses; `reader` is what a caller who may only read gets (None: the same); `is_webhook`
    routes are proven by Stripe's signature. `filters` only narrow a list: an unknown value leaves nothing in it. `ids`
    are the body's fields that name something which must exist.
    """

    body: Callable[[Service], Any] = _nothing
    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    answers: tuple[int, ...] = (200,)
    reader: int | None = 403
    anonymous: int = 401
    is_webhook: bool = False
    filters: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    def target(self, service: Service, path: str, **instead: str) -> str:
        """The path with its parameters filled in, and the query. `instead` replaces path parameters."""
        for name, value in {**self.path, **instead}.items():
            path = path.replace(f"{{{name}}}", _fact(service, value))
        query = {name: _fact(service, value) for name, value in self.query.items()}
        return path + (f"?{urlencode(query)}" if query else "")

    def raw(self, service: Service) -> bytes:
        value = self.body(service)
        return b"" if value is None else json.dumps(value).encode()

    def headers(self, body: bytes) -> dict[str, str]:
        kind = {"Content-Type": "application/json"} if body else {}
        return {**kind, "Stripe-Signature": stripe_signature(body)} if self.is_webhook else kind


def _fact(service: Service, value: str) -> str:
    return service.facts[value[1:]] if value.startswith("$") else value


_RECEIVABLE = {"stripe_invoice_id": "$receivable"}
_DISPUTE = {"dispute_id": "00000000-0000-4000-8000-000000000000"}  # nobody disputes anything in this world
_BILLING_RUN = {"run_id": "00000000-0000-4000-8000-000000000000"}  # nor was anything planned in it
_NO_REPORT = {"report_id": "00000000-0000-4000-8000-000000000000"}
_STATEMENT = {"clientOrgId": "org_acme", "period": "2026-01"}


def _version(service: Service) -> dict[str, Any]:
    path = f"/api/provider/instances/{service.facts['other']}"
    return {"version": service.ask("GET", path)["instance"]["version"]}


def _key(number: int) -> dict[str, Any]:
    return {
        "id": f"key-{number}",
        "algorithm": "sha256",
        "secret": _SECRET,
        "scope": "provider",
        "notBefore": None,
        "notAfter": "2099-01-01T00:00:00Z",
    }


def _new_instance(_service: Service) -> dict[str, Any]:
    number = next(_NUMBERS)
    return {
        "name": f"new-{number}", "clientOrgId": f"org_new_{number}", "baseUrl": f"http://127.0.0.1:{6000 + number}",
        "key": _key(number), "title": "New", "environment": "test", "notes": "", "currency": "usd", "aiCapCents": 5000,
        "billingEmail": "new@example.com",
    }  # fmt: skip


def _edit(service: Service) -> dict[str, Any]:
    return {
        **_version(service), "title": f"Other {next(_NUMBERS)}", "environment": "test", "notes": "a note", "currency": "usd",
        "aiCapCents": 5000, "billingEmail": "other@example.com", "baseUrl": "http://127.0.0.1:4998",
    }  # fmt: skip


def _run(service: Service) -> dict[str, Any]:
    return {"action": "preview", "instanceIds": [service.facts["acme"]], "params": {"range": "d30"}}


def _entitlement(_service: Service) -> dict[str, Any]:
    return {
        "version": next(_NUMBERS), "plan": "PRO", "state": "full", "support": "email", "validFrom": "2026-03-10T12:00:00Z",
        "limits": {"leads": 1000, "users": None, "aiCredits": 5000},
    }  # fmt: skip


def _event(number: int) -> dict[str, Any]:
    return {
        "id": f"evt_bad_input_{number}", "object": "event", "type": "invoice.paid", "created": 1_790_000_000, "livemode": False,
        "api_version": "2025-01-01", "data": {"object": {"id": "in_nobodys", "object": "invoice", "customer": "cus_nobodys"}},
    }  # fmt: skip


_PUBLIC = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
_NO_KEY = "00000000-0000-4000-8000-000000000000"


def _public_key(_service: Service) -> dict[str, Any]:
    return {
        "id": f"portal-{next(_NUMBERS)}",
        "algorithm": "ed25519",
        "publicKey": _PUBLIC,
        "scope": "provider",
    }


_ONE = {"path": {"instance_id": "$other"}}
_READ = Sample(reader=None)
_LIST = Sample(reader=None, filters=("clientOrgId", "instanceId", "search", "mode", "period"))
PORTAL = {
    "GET /api/provider/instances": _LIST,
    "POST /api/provider/instances": Sample(_new_instance),
    "GET /api/provider/instances/{instance_id}": Sample(**_ONE, reader=None),
    "PATCH /api/provider/instances/{instance_id}": Sample(_edit, **_ONE),
    "POST /api/provider/instances/{instance_id}/disable": Sample(_version, **_ONE),
    "POST /api/provider/instances/{instance_id}/enable": Sample(_version, **_ONE),
    "POST /api/provider/instances/{instance_id}/check": Sample(path={"instance_id": "$acme"}, reader=None),
    "POST /api/provider/instances/{instance_id}/key": Sample(
        lambda service: {**_version(service), "key": _key(next(_NUMBERS))}, **_ONE
    ),
    "GET /api/provider/instances/{instance_id}/keys": Sample(**_ONE, reader=None),
    "POST /api/provider/instances/{instance_id}/keys": Sample(
        lambda service: {**_version(service), "scope": "read"}, **_ONE
    ),
    # Nobody lives at the instance's address, so what would have to be agreed with it is not.
    "POST /api/provider/instances/{instance_id}/keys/confirm": Sample(_version, answers=(409, 502), **_ONE),
    "POST /api/provider/instances/{instance_id}/keys/rotate": Sample(_version, answers=(409, 502), **_ONE),
    "POST /api/provider/instances/{instance_id}/keys/{key}/revoke": Sample(
        _version, path={"instance_id": "$other", "key": _NO_KEY}, answers=(404,)
    ),
    "POST /api/provider/instances/{instance_id}/enrol": Sample(
        lambda service: {**_version(service), "code": new_code()}, answers=(502,), **_ONE
    ),
    "POST /api/provider/instances/{instance_id}/ratchet/reset": Sample(_version, **_ONE),
    "POST /api/provider/fleet/sync": Sample(
        lambda service: {"instanceIds": [service.facts["acme"]]}, answers=(202,), ids=("instanceIds",)
    ),
    "POST /api/provider/fleet": Sample(_run, answers=(202,), ids=("instanceIds",)),
    "GET /api/provider/fleet": _READ,
    "GET /api/provider/fleet/{run_id}": Sample(path={"run_id": "$run"}, reader=None),
    "POST /api/provider/fleet/{run_id}/cancel": Sample(path={"run_id": "$run"}),
    "POST /api/provider/fleet/{run_id}/retry": Sample(
        path={"run_id": "$run"}, answers=(202, 409)
    ),  # nothing has failed
    "GET /api/provider/totals": _LIST,
    "GET /api/provider/invoices": _LIST,
    "GET /api/provider/invoices.csv": _LIST,
    "GET /api/provider/billing/subscriptions": _LIST,
    "POST /api/provider/billing/subscriptions": Sample(
        lambda _service: {
            "clientOrgId": "org_acme",
            "planId": "PRO",
            "billingDetails": {"name": "Acme", "email": "a@example.com"},
        },
        answers=(200, 201),
        ids=("clientOrgId",),
    ),
    "GET /api/provider/billing/subscriptions/{subscription_id}": Sample(
        path={"subscription_id": "$subscription"}, reader=None
    ),
    "DELETE /api/provider/billing/subscriptions/{subscription_id}": Sample(
        path={"subscription_id": "$subscription"}
    ),
    "GET /api/provider/billing/subscriptions/export.csv": _LIST,
    "POST /api/provider/billing/subscriptions/{subscription_id}/preview": Sample(
        lambda _service: {"planId": "ELITE", "prorationBehavior": "always_invoice"},
        path={"subscription_id": "$subscription"},
        answers=(200, 409),  # ended, or not paid yet
        reader=None,
    ),
    "PUT /api/provider/billing/subscriptions/{subscription_id}": Sample(
        lambda _service: {"planId": "ELITE"}, path={"subscription_id": "$subscription"}, answers=(200, 409)
    ),
    "POST /api/provider/billing/subscriptions/{subscription_id}/resume": Sample(
        path={"subscription_id": "$subscription"}, answers=(200, 409)
    ),
    "DELETE /api/provider/billing/subscriptions/{subscription_id}/change": Sample(
        path={"subscription_id": "$subscription"}
    ),
    "GET /api/provider/billing/entitlements": _LIST,
    "POST /api/provider/billing/entitlements/{client_org_id}/publish": Sample(
        path={"client_org_id": "org_acme"}, answers=(202,)
    ),
    "GET /api/provider/billing/revenue": Sample(query={"clientOrgId": "org_acme"}, reader=None),
    "POST /api/provider/billing/revenue": Sample(
        lambda _service: last_month("org_acme"), answers=(200, 201), ids=("clientOrgId",)
    ),
    "GET /api/provider/billing/invoices": _LIST,
    "GET /api/provider/billing/invoices/{invoice_id}": Sample(
        path={"invoice_id": "$usage_invoice"}, reader=None
    ),
    "POST /api/provider/billing/invoices/{invoice_id}/release": Sample(
        path={"invoice_id": "$usage_invoice"},
        answers=(200, 409),  # it is not held
    ),
    "POST /api/provider/billing/runs": Sample(
        body=lambda _service: {"period": last_month("org_acme")["periodStart"][:7]}, answers=(202, 409)
    ),
    "GET /api/provider/billing/runs": _LIST,
    "GET /api/provider/billing/runs/{run_id}": Sample(path=_BILLING_RUN, answers=(404,), reader=None),
    "GET /api/provider/billing/runs/{run_id}/items": Sample(path=_BILLING_RUN, answers=(404,), reader=None),
    "GET /api/provider/billing/runs/{run_id}/report.csv": Sample(
        path=_BILLING_RUN, answers=(404,), reader=None
    ),
    "POST /api/provider/billing/runs/{run_id}/approve": Sample(
        body=lambda _service: {"planHash": "sha256:" + "0" * 64}, path=_BILLING_RUN, answers=(404,)
    ),
    "POST /api/provider/billing/runs/{run_id}/execute": Sample(path=_BILLING_RUN, answers=(404,)),
    "POST /api/provider/billing/runs/{run_id}/cancel": Sample(path=_BILLING_RUN, answers=(404,)),
    "POST /api/provider/billing/runs/{run_id}/retry": Sample(
        body=lambda _service: {"clientOrgIds": [], "reviewed": False}, path=_BILLING_RUN, answers=(404,)
    ),
    "GET /api/provider/billing/ai-terms/{client_org_id}": Sample(
        path={"client_org_id": "org_acme"}, reader=None
    ),
    "PUT /api/provider/billing/ai-terms/{client_org_id}": Sample(
        lambda _service: {"capCents": 5_000, "markup": "0.1"}, path={"client_org_id": "org_acme"}
    ),
    "GET /api/provider/billing/ledger": Sample(query={"clientOrgId": "org_acme"}, reader=None),
    "GET /api/provider/billing/reconcile": Sample(query={"clientOrgId": "org_acme"}, reader=None),
    "POST /api/provider/billing/reconciliations": Sample(
        lambda _service: {"period": "2026-01", "clientOrgId": "org_acme"}, answers=(200, 202)
    ),
    "GET /api/provider/billing/reconciliations": Sample(query={"period": "2026-01"}, reader=None),
    "GET /api/provider/billing/reconciliations/{report_id}": Sample(
        path=_NO_REPORT, answers=(404,), reader=None
    ),
    "GET /api/provider/billing/reconciliations/{report_id}/rows": Sample(
        path=_NO_REPORT, answers=(404,), reader=None
    ),
    "GET /api/provider/billing/reconciliations/{report_id}/rows.csv": Sample(
        path=_NO_REPORT, answers=(404,), reader=None
    ),
    "POST /api/provider/billing/reconciliations/{report_id}/repair": Sample(
        lambda _service: {"dryRun": True}, path=_NO_REPORT, answers=(404,)
    ),
    **{
        f"GET /api/provider/reports/{name}": Sample(query={"from": "2026-01", "to": "2026-02"}, reader=None)
        for name in ("owed", "revenue", "mrr", "ai")
    },
    "GET /api/provider/reports/{name}.csv": Sample(
        path={"name": "owed"}, query={"from": "2026-01", "to": "2026-02"}, reader=None
    ),
    "GET /api/provider/billing/receivables": Sample(
        query={"clientOrgId": "org_acme", "limit": "20"}, reader=None
    ),
    "GET /api/provider/billing/receivables/{stripe_invoice_id}": Sample(path=_RECEIVABLE, reader=None),
    "POST /api/provider/billing/receivables/{stripe_invoice_id}/credit-notes/preview": Sample(
        lambda _service: {
            "reference": "p",
            "lines": [{"position": 1, "amountCents": 100}],
            "settle": "balance",
        },
        path=_RECEIVABLE,
        answers=(200, 409, 422),
        reader=None,
    ),
    "POST /api/provider/billing/receivables/{stripe_invoice_id}/credit-notes": Sample(
        lambda _service: {
            "reference": f"credit-{next(_NUMBERS)}",
            "lines": [{"position": 1, "amountCents": 1}],
            "reason": "order_change",
            "memo": "a memo",
            "settle": "balance",
            "freesLeads": False,
        },
        path=_RECEIVABLE,
        answers=(201, 409, 422),
    ),
    "POST /api/provider/billing/receivables/{stripe_invoice_id}/refunds": Sample(
        lambda _service: {"reference": f"refund-{next(_NUMBERS)}", "amountCents": 1, "reason": "duplicate"},
        path=_RECEIVABLE,
        answers=(422,),  # it is not paid
    ),
    "POST /api/provider/billing/receivables/{stripe_invoice_id}/uncollectible": Sample(
        path=_RECEIVABLE, answers=(200, 409)
    ),
    "POST /api/provider/billing/receivables/{stripe_invoice_id}/void": Sample(
        path=_RECEIVABLE, answers=(200, 409)
    ),
    "GET /api/provider/billing/disputes": _LIST,
    "GET /api/provider/billing/client-disputes": _LIST,
    "POST /api/provider/billing/disputes": Sample(
        lambda _service: {"clientOrgId": "org_acme", "leadId": "lead-1", "claim": "They never called."},
        answers=(201, 404),
        ids=("clientOrgId",),
    ),
    "GET /api/provider/billing/disputes/{dispute_id}": Sample(path=_DISPUTE, answers=(404,), reader=None),
    "POST /api/provider/billing/disputes/{dispute_id}/accept": Sample(
        lambda _service: {"decision": "They are right.", "freesLead": False, "settle": "balance"},
        path=_DISPUTE,
        answers=(404,),
    ),
    "POST /api/provider/billing/disputes/{dispute_id}/reject": Sample(
        lambda _service: {"decision": "They called twice."}, path=_DISPUTE, answers=(404,)
    ),
    "POST /api/provider/billing/dunning": Sample(),
    "POST /api/provider/billing/sweep": Sample(),
    "GET /api/provider/billing/stripe-events": Sample(
        query={"state": "parked"}, reader=None, filters=("type", "objectId")
    ),
    "POST /api/provider/billing/stripe-events/retry": Sample(),
    "POST /api/provider/billing/stripe-events/{event_id}/retry": Sample(
        path={"event_id": "evt_nobody_sent"}, answers=(404,)
    ),
    "GET /api/provider/billing/statements": Sample(query=_STATEMENT, reader=None),
    "GET /api/provider/billing/statements.csv": Sample(query=_STATEMENT, reader=None),
    "GET /api/provider/billing/statements.pdf": Sample(query=_STATEMENT, reader=None),
    "POST /api/webhooks/provider-stripe": Sample(
        lambda _service: _event(next(_NUMBERS)), reader=None, anonymous=200, is_webhook=True
    ),
}
INSTANCE = {
    "GET /api/billing/preview": _READ,
    "POST /api/billing/invoices.create": Sample(
        lambda service: {
            "lines": [
                {
                    "leadId": service.facts["lead"],
                    "customerId": service.facts["customer"],
                    "amountCents": None,
                }
            ]
        },
        ids=("leadId", "customerId"),
    ),
    "GET /api/billing/list": _READ,
    "GET /api/billing/get": Sample(query={"id": "$invoice"}, reader=None),
    "POST /api/integrations/stripe/create-hosted-invoice": Sample(
        lambda service: {"id": service.facts["invoice"]}, ids=("id",)
    ),
    "POST /api/webhooks/stripe": Sample(
        lambda _service: _event(next(_NUMBERS)), reader=None, anonymous=200, is_webhook=True
    ),
    "GET /api/provider/usage": Sample(query={"period": "2026-01"}, reader=None),
    "GET /api/system/federation.status": Sample(reader=None, anonymous=200),
    "GET /api/federation/changes": _READ,
    "GET /api/federation/policy": _READ,
    "POST /api/federation/enrol": Sample(
        lambda service: {"key": _public_key(service)}, answers=(403,), anonymous=403
    ),
    "POST /api/federation/keys": Sample(
        lambda service: {"action": "introduce", "key": _public_key(service)}, answers=(401, 403)
    ),
    "GET /api/federation/entitlements": _READ,
    "POST /api/federation/entitlements": Sample(_entitlement),
    "GET /api/federation/disputes": _READ,
    "POST /api/federation/disputes/{dispute_id}": Sample(
        lambda _service: {
            "version": 1,
            "state": "rejected",
            "decision": "It did convert.",
            "decidedAt": "2026-03-10T12:00:00Z",
            "creditNoteNumber": "",
            "leadFreed": False,
        },
        path={"dispute_id": "nobodyfiledthat"},
        answers=(404,),
    ),
}
SAMPLES = {"portal": PORTAL, "instance": INSTANCE}
