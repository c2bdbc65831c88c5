"""A client says that a lead should not have been billed: recorded, decided once, credited when accepted."""

from __future__ import annotations

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.receivables.models import DisputeState, LeadDispute, Settle
from provider_federation.portal.receivables.services.credit_notes import (
    CreditLine,
    CreditRequest,
    claim_credit_note,
    finish_credit_note,
)
from provider_federation.portal.receivables.services.telling import update_told
from provider_federation.portal.revenue.models import LeadCharge


def find_charge(client_org_id: str, lead_id: str) -> LeadCharge:
    """The charge of a lead, by its id or its public id. Problem 404 `not_found` when it was never billed or
    its charge was released.
    """
    charges = LeadCharge.objects.filter(instance__org_id=client_org_id, released_at=None)
    charges = charges.select_related("instance", "line__invoice")
    found = charges.filter(lead_id=lead_id).first() or charges.filter(lead_public_id=lead_id).first()
    if found is None:
        sentence = "This client was not billed for such a lead, or that was taken back."
        raise Problem(404, "not_found", sentence)
    return found


def raise_dispute(charge: LeadCharge, claim: str, *, actor: str) -> LeadDispute:
    """Record the client's words. The same claim again is the dispute that is there.

    Problem 409 `dispute_decided` when it was accepted before, `lead_released` when the lead is free already.
    """
    with transaction.atomic():
        locked = LeadCharge.objects.select_for_update().get(pk=charge.pk)
        earlier = LeadDispute.objects.filter(charge=locked).exclude(state=DisputeState.REJECTED).first()
        if earlier is not None and earlier.state == DisputeState.OPEN:
            return earlier
        if earlier is not None:
            raise Problem(409, "dispute_decided", "A dispute of this lead was accepted before.")
        if locked.released_at is not None:
            raise Problem(409, "lead_released", "This lead's charge was taken back already.")
        row = LeadDispute.objects.create(charge=locked, claim=claim, raised_by=actor, raised_at=clock.now())
        record(Kind.DISPUTE_RAISED, actor, f"dispute:{row.pk}", lead=locked.lead_id, claim=claim)
    return row


def accept_dispute(
    dispute: LeadDispute, *, decision: str, frees_lead: bool, settle: str = Settle.BALANCE, actor: str
) -> LeadDispute:
    """The client is right: a credit note over the lead's price is made, with the dispute, or neither is.

    `frees_lead`: the lead may be billed again, should it convert anew. Accepting again answers what was
    decided. Problem 409 `dispute_decided` when it was rejected, and those of `issue_credit_note`.
    """
    with transaction.atomic():
        row = _locked(dispute)
        if row.state == DisputeState.REJECTED:
            raise Problem(
                409, "dispute_decided", "This dispute was rejected; the client may raise a new one."
            )
        if row.state == DisputeState.OPEN:
            wanted = CreditRequest(
                reference=f"dispute:{row.pk}",
                lines=(CreditLine(row.charge.line.position, row.charge.amount_cents, row.charge.pk),),
                reason="product_unsatisfactory",
                memo=f"Lead {row.charge.lead_public_id or row.charge.lead_id}",
                settle=settle,
                frees_leads=frees_lead,
            )
            row.credit_note, _ = claim_credit_note(row.charge.line.invoice, wanted, actor=actor)
            _decide(row, DisputeState.ACCEPTED, decision, actor)
    if row.credit_note_id:
        finish_credit_note(row.credit_note_id)
    return LeadDispute.objects.select_related("credit_note", "charge__line__invoice").get(pk=row.pk)


def reject_dispute(dispute: LeadDispute, *, decision: str, actor: str) -> LeadDispute:
    """The charge stands. Rejecting again answers what was decided. Problem 409 `dispute_decided` when it was
    accepted.
    """
    with transaction.atomic():
        row = _locked(dispute)
        if row.state == DisputeState.ACCEPTED:
            raise Problem(409, "dispute_decided", "This dispute was accepted; its credit note stands.")
        if row.state == DisputeState.OPEN:
            _decide(row, DisputeState.REJECTED, decision, actor)
    return row


def _locked(dispute: LeadDispute) -> LeadDispute:
    rows = LeadDispute.objects.select_for_update(of=("self",))
    return rows.select_related("charge__line__invoice__instance").get(pk=dispute.pk)


def _decide(row: LeadDispute, state: DisputeState, decision: str, actor: str) -> None:
    row.state, row.decision, row.decided_by, row.decided_at = state, decision, actor, clock.now()
    row.save()
    facts = {"state": state, "credit_note": row.credit_note_id, "lead": row.charge.lead_id}
    record(Kind.DISPUTE_DECIDED, actor, f"dispute:{row.pk}", decision=decision, **facts)
    update_told([row])
