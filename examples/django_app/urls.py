"""The routes, with the project's own staff, and a provider who may do what the staff may."""

import json
import os

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

INVOICES = [{"id": "1", "customer": "Blue Door Ltd", "totalCents": 12_500, "currency": "eur"}]


def staff(request: HttpRequest) -> str:
    """Who asks: a colleague with the staff's token."""
    if request.federation:  # federation
        return request.federation.key_id  # federation
    if request.headers.get("authorization") != f"Bearer {os.environ.get('STAFF_TOKEN', 'staff')}":
        raise PermissionDenied
    return "staff"


@require_GET
def list_invoices(request: HttpRequest) -> JsonResponse:
    """The invoices, newest first."""
    staff(request)
    return JsonResponse({"ok": True, "items": INVOICES[::-1], "nextCursor": ""})


@require_POST
def create_invoice(request: HttpRequest) -> JsonResponse:
    """Draft one."""
    who, order = staff(request), json.loads(request.body)
    invoice = {"id": str(len(INVOICES) + 1), "customer": order["customer"], "totalCents": order["total_cents"],
               "currency": "eur"}  # fmt: skip
    INVOICES.append(invoice)
    return JsonResponse({"ok": True, "invoice": invoice, "by": who}, status=201)


def status(_request: HttpRequest) -> JsonResponse:  # federation
    return JsonResponse({"ok": True, "enabled": True, "mode": "v2"})  # federation


urlpatterns = [
    path("api/billing/list", list_invoices),
    path("api/billing/invoices.create", create_invoice),
    path("api/system/federation.status", status),  # federation
]
