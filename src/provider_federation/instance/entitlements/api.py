"""`/api/federation/entitlements`: the provider says what this instance may use."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from provider_federation.instance.entitlements.queries import allowed_now
from provider_federation.instance.entitlements.schemas import EntitlementIn, EntitlementOut, StoredOut
from provider_federation.instance.entitlements.services import store_entitlement
from provider_federation.instance.invoicing.idempotency import run_once
from provider_federation.instance.people.access import Access, ProviderOnly, caller_of
from provider_federation.kit.web.api import refuse_unknown_query

router = Router(tags=["entitlements"], by_alias=True)


@router.get(
    "/federation/entitlements",
    response=EntitlementOut,
    auth=Access("billing.read", "read"),
)
def get_entitlement(request: HttpRequest) -> EntitlementOut:
    """What this instance may use, and which version of the portal's word that is."""
    refuse_unknown_query(request, ())
    return EntitlementOut.of(allowed_now())


@router.post(
    "/federation/entitlements",
    response=StoredOut,
    auth=ProviderOnly("Only the provider says what this instance may use."),
)
def set_entitlement(request: HttpRequest, body: EntitlementIn) -> HttpResponse:
    """Take the portal's word. Order does not matter: an older version is answered with the one that holds."""
    refuse_unknown_query(request, ())
    told = body.told()

    def store() -> StoredOut:
        applied = store_entitlement(told)
        return StoredOut.after(allowed_now(), applied=applied)

    return run_once(request, caller_of(request), store, transactional=True)
