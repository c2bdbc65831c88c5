"""Status and the changes feed."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from ninja import Query, Router

from provider_federation import __version__
from provider_federation.instance.federation.queries import CAPABILITIES, mode, schemes
from provider_federation.instance.federation.schemas import (
    ChangeOut,
    ChangesOut,
    ChangesQuery,
    SchemeOut,
    SignedStatusOut,
    StatusOut,
)
from provider_federation.instance.invoicing.queries import changes_after
from provider_federation.instance.people.access import Access, principal_of
from provider_federation.kit import clock
from provider_federation.kit.web.api import refuse_unknown_query

router = Router(tags=["federation"], by_alias=True)


@router.get("/system/federation.status", response=SignedStatusOut | StatusOut, auth=None)
def status(request: HttpRequest) -> StatusOut:
    """Whether federation is on and how it signs; to a signed caller also who and what this instance is."""
    refuse_unknown_query(request, ())
    federation = settings.FEDERATION
    if principal_of(request) is None:
        return StatusOut(enabled=federation.enabled, mode=mode())
    return SignedStatusOut(
        enabled=federation.enabled,
        mode=mode(),
        instance=settings.INSTANCE_NAME,
        org=settings.INSTANCE_ORG_ID,
        title=settings.INSTANCE_TITLE,
        version=__version__,
        capabilities=list(CAPABILITIES),
        server_time=clock.now(),
        schemes=[SchemeOut.of(scheme) for scheme in schemes()],
    )


@router.get("/federation/changes", response=ChangesOut, auth=Access("billing.read", "read"))
def changes(request: HttpRequest, query: Query[ChangesQuery]) -> ChangesOut:
    """Everything that changed since the cursor, in the order of commits; without one from the beginning."""
    refuse_unknown_query(request, ("cursor", "limit"))
    epoch, page, following, more = changes_after(query.cursor, query.limit)
    return ChangesOut(
        epoch=epoch, items=[ChangeOut.of(change) for change in page], next_cursor=following, has_more=more
    )
