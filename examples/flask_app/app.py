"""A small Flask app of leads and invoices with its own staff, and a provider who may do what the staff may.

What federating it took are the lines that end in `# federation`.
"""

import os

from flask import Flask, abort, request

from provider_federation.adapters.flask import Federation  # federation

app = Flask(__name__)
federation = Federation.from_environment()  # federation
federation.install(app)  # federation

INVOICES = [{"id": "1", "customer": "Blue Door Ltd", "totalCents": 12_500, "currency": "eur"}]


def staff() -> str:
    """Who asks: a colleague with the staff's token."""
    if federation.principal:  # federation
        return federation.principal.key_id  # federation
    if request.headers.get("authorization") != f"Bearer {os.environ.get('STAFF_TOKEN', 'staff')}":
        abort(401)
    return "staff"


@app.get("/api/billing/list")
def list_invoices() -> dict[str, object]:
    """The invoices, newest first."""
    staff()
    return {"ok": True, "items": INVOICES[::-1], "nextCursor": ""}


@app.post("/api/billing/invoices.create")
def create_invoice() -> tuple[dict[str, object], int]:
    """Draft one."""
    who, order = staff(), request.get_json()
    invoice = {"id": str(len(INVOICES) + 1), "customer": order["customer"], "totalCents": order["total_cents"],
               "currency": "eur"}  # fmt: skip
    INVOICES.append(invoice)
    return {"ok": True, "invoice": invoice, "by": who}, 201


@app.get("/api/system/federation.status")  # federation
def status() -> dict[str, object]:  # federation
    return {"ok": True, "enabled": True, "mode": "v2"}  # federation
