"""A small FastAPI app of leads and invoices with its own staff, and a provider who may do what the staff may.

What federating it took are the lines that end in `# federation`.
"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from provider_federation.adapters.fastapi import Federation, Principal  # federation

app = FastAPI(title="Leads")
federation = Federation.from_environment()  # federation
federation.install(app)  # federation

INVOICES = [{"id": "1", "customer": "Blue Door Ltd", "totalCents": 12_500, "currency": "eur"}]


def staff(
    request: Request,
    provider: Annotated[Principal | None, Depends(federation.optional)],  # federation
) -> str:
    """Who asks: a colleague with the staff's token."""
    if provider:  # federation
        return provider.key_id  # federation
    if request.headers.get("authorization") != f"Bearer {os.environ.get('STAFF_TOKEN', 'staff')}":
        raise HTTPException(401)
    return "staff"


class Order(BaseModel):
    """What an invoice is made of."""

    customer: str
    total_cents: int


@app.get("/api/billing/list")
def list_invoices(_who: Annotated[str, Depends(staff)]) -> dict[str, object]:
    """The invoices, newest first."""
    return {"ok": True, "items": INVOICES[::-1], "nextCursor": ""}


@app.post("/api/billing/invoices.create", status_code=201)
def create_invoice(order: Order, who: Annotated[str, Depends(staff)]) -> dict[str, object]:
    """Draft one."""
    invoice = {"id": str(len(INVOICES) + 1), "customer": order.customer, "totalCents": order.total_cents,
               "currency": "eur"}  # fmt: skip
    INVOICES.append(invoice)
    return {"ok": True, "invoice": invoice, "by": who}


@app.get("/api/system/federation.status")  # federation
def status() -> dict[str, object]:  # federation
    return {"ok": True, "enabled": True, "mode": "v2"}  # federation
