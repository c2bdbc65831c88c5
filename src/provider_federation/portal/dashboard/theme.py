"""Unfold's settings: names, colours, the sidebar. The settings module imports it, so it touches no models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

_PRIMARY = {
    "50": "oklch(97.1% .014 255)",
    "100": "oklch(93.6% .032 255)",
    "200": "oklch(88.4% .06 255)",
    "300": "oklch(80.9% .107 255)",
    "400": "oklch(70.5% .16 257)",
    "500": "oklch(60.8% .2 260)",
    "600": "oklch(52.6% .216 262)",
    "700": "oklch(46.5% .2 263)",
    "800": "oklch(40.4% .165 264)",
    "900": "oklch(36.4% .12 265)",
    "950": "oklch(27.6% .08 267)",
}


def environment(_request: HttpRequest) -> list[str] | None:
    """The badge in the header; a portal for real money shows none."""
    from django.conf import settings

    return ["Development", "warning"] if settings.DEVELOPMENT else None


def _needs(permission: str) -> Callable[[HttpRequest], bool]:
    def allowed_here(request: HttpRequest) -> bool:
        from provider_federation.portal.operators.services import allowed

        return allowed(request.user, permission)

    return allowed_here


def _under(*prefixes: str) -> Callable[[HttpRequest], bool]:
    return lambda request: (
        request.path == prefixes[0]
        or any(prefix != "/" and request.path.startswith(prefix) for prefix in prefixes)
    )


def _item(title: str, icon: str, page: str, permission: str, *prefixes: str) -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(page),
        "permission": _needs(permission),
        "active": _under(*prefixes),
    }


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Provider Portal",
    "SITE_HEADER": "Provider Portal",
    "SITE_SUBHEADER": "All clients, one view",
    "SITE_SYMBOL": "hub",
    "SITE_URL": None,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("portal/icon.svg")},
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "provider_federation.portal.dashboard.theme.environment",
    "BORDER_RADIUS": "8px",
    "COLORS": {"primary": _PRIMARY},
    "STYLES": [lambda _request: static("portal/portal.css")],
    "SCRIPTS": [lambda _request: static("portal/portal.js")],
    "SIDEBAR": {
        "show_search": False,
        "navigation": [
            {
                "items": [
                    _item("Overview", "space_dashboard", "overview", "billing.read", "/"),
                    _item("Instances", "dns", "instances", "instances.read", "/instances/"),
                    _item("Runs", "playlist_play", "runs", "fleet.read", "/runs/"),
                ]
            },
            {
                "title": "Clients' billing",
                "separator": True,
                "items": [_item("Invoices", "receipt_long", "invoices", "billing.read", "/invoices/")],
            },
            {
                "title": "Provider's billing",
                "separator": True,
                "items": [
                    _item("Revenue", "monitoring", "revenue", "billing.read", "/revenue/"),
                    _item("Subscriptions", "autorenew", "subscriptions", "billing.read", "/subscriptions/"),
                    _item("Billing runs", "play_circle", "billing-runs", "billing.read", "/billing-runs/"),
                    _item(
                        "Usage invoices",
                        "request_quote",
                        "usage-invoices",
                        "billing.read",
                        "/usage-invoices/",
                    ),
                    _item(
                        "Receivables",
                        "payments",
                        "receivables",
                        "billing.read",
                        "/receivables/",
                        "/statements/",
                    ),
                    _item("Lead disputes", "gavel", "lead-disputes", "billing.read", "/disputes/"),
                    _item("Reconciliation", "balance", "reconciliations", "billing.read", "/reconciliation/"),
                    _item("Reports", "finance", "reports", "billing.read", "/reports/"),
                    _item("Webhook events", "webhook", "webhooks", "billing.read", "/webhooks/"),
                ],
            },
            {
                "title": "Administration",
                "separator": True,
                "items": [
                    _item("Operators & tokens", "group", "operators", "operators.manage", "/operators/"),
                    _item("Audit log", "history", "audit", "audit.read", "/audit/"),
                    _item(
                        "Jobs",
                        "manufacturing",
                        "admin:procrastinate_procrastinatejob_changelist",
                        "operators.manage",
                        "/admin/procrastinate/",
                    ),
                ],
            },
        ],
    },
}
