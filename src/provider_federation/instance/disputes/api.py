"""`/api/federation/disputes`: the provider fetches what the client disputes, and says what it decided."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router

from provider_federation.instance.disputes.queries import changes_after
from provider_federation.instance.disputes.schemas import (
    DisputeChangeOut,
    DisputesOut,
    DisputesQuery,
    WordIn,
    WordOut,
)
from provider_federation.instance.disputes.services import store_word
from provider_federation.instance.invoicing.idempotency import run_once
from provider_federation.instance.people.access import Access, ProviderOnly, caller_of
from provider_federation.kit.web.api import refuse_unknown_query

router = Router(tags=["disputes"], by_alias=True)


@router.get("/federation/disputes", response=DisputesOut, auth=Access("billing.read", "read"))
def list_disputes(request: HttpRequest, query: Query[DisputesQuery]) -> DisputesOut:
    """Everything that was filed or decided since the cursor, in the order of commits; without one from the
    beginning.
    """
    refuse_unknown_query(request, ("cursor", "limit"))
    epoch, page, following, more = changes_after(query.cursor, query.limit)
    items = [DisputeChangeOut.of(change) for change in page]
    return DisputesOut(epoch=epoch, items=items, next_cursor=following, has_more=more)


@router.post(
    "/federation/disputes/{dispute_id}",
    response=WordOut,
    auth=ProviderOnly("Only the provider says what became of a dispute."),
)
def set_word(request: HttpRequest, dispute_id: str, body: WordIn) -> HttpResponse:
    """Take the provider's word. Order does not matter: an older version is answered with the one that holds."""
    refuse_unknown_query(request, ())
    word = body.word()

    def store() -> WordOut:
        row, applied = store_word(dispute_id, word)
        return WordOut(applied=applied, id=row.reference, version=row.version, state=row.state)

    return run_once(request, caller_of(request), store, transactional=True)
