"""The closed vocabulary of differences: what each class means, between which books, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass

REFETCH, ADOPT, REMOVE_DRAFT, RESYNC = "refetch", "adopt", "remove_draft", "resync"

REPAIRS = {
    REFETCH: "Fetch the object from Stripe again and write what it says",
    ADOPT: "Take the invoice that carries our order into the ledger",
    REMOVE_DRAFT: "Remove the second draft; it was never sent",
    RESYNC: "Read the instance's invoices again from the beginning",
}
"""What a repair does. None of them sends money, makes an invoice, or changes one that is final."""


@dataclass(frozen=True)
class Class:
    """One class of difference. `books` are those that disagree; `remedy` tells a person what helps."""

    code: str
    label: str
    books: str
    remedy: str


_LEDGER, _USAGE, _MIRROR = "portal and Stripe", "portal and instance", "mirror and instance"

CLASSES: dict[str, Class] = {
    one.code: one
    for one in (
        Class(
            "missing_in_stripe",
            "Missing in Stripe",
            _LEDGER,
            "Stripe does not know this invoice: is the key that of another account, or the database a copy?",
        ),
        Class(
            "missing_in_ledger",
            "Missing in the ledger",
            _LEDGER,
            "An event was lost: fetch the invoice again. One that was made by hand stays outside of the ledger.",
        ),
        Class(
            "orphan",
            "Orphan",
            _LEDGER,
            "Stripe holds an invoice of our order that no row holds: adopt it, or void it in Stripe.",
        ),
        Class(
            "duplicate",
            "Duplicate",
            _LEDGER,
            "One order has several living invoices: a draft can be removed, a final one must be voided.",
        ),
        Class(
            "not_placed", "Not placed yet", _LEDGER, "It is on its way to Stripe; its failure is beside it."
        ),
        Class(
            "customer",
            "Customer",
            _LEDGER,
            "The invoice is on another customer than its client's: look first.",
        ),
        Class(
            "stranger",
            "Stranger",
            _LEDGER,
            "The customer is no client of ours: somebody else uses the account.",
        ),
        Class(
            "currency", "Currency", _LEDGER, "Two currencies for one invoice: nothing of it can be added up."
        ),
        Class("status", "Status", _LEDGER, "An event was lost: fetch the invoice again."),
        Class(
            "amount",
            "Amount",
            _LEDGER,
            "The total differs: fetch it again; if lines differ, write a credit note.",
        ),
        Class("tax", "Tax", _LEDGER, "Stripe reckoned other tax than the ledger shows: fetch it again."),
        Class("paid", "Payment", _LEDGER, "A payment was not heard of: fetch the invoice again."),
        Class("credited", "Credit", _LEDGER, "A credit note was not heard of: fetch the invoice again."),
        Class(
            "line_missing",
            "Line missing",
            _LEDGER,
            "Stripe bills less than was planned: look at the invoice.",
        ),
        Class("line_extra", "Line too many", _LEDGER, "Stripe bills a line nobody planned: credit it."),
        Class("line_amount", "Line amount", _LEDGER, "A line was changed in Stripe: credit the difference."),
        Class(
            "credit_note",
            "Credit note",
            _LEDGER,
            "A credit note is in one book only: fetch the invoice again.",
        ),
        Class("refund", "Refund", _LEDGER, "A refund is in one book only: fetch the invoice again."),
        Class("subscription", "Subscription", _LEDGER, "An event was lost: fetch the subscription again."),
        Class(
            "lead_without_evidence",
            "Lead without evidence",
            _USAGE,
            "The instance does not know a lead that was billed: credit it, or learn where it went.",
        ),
        Class(
            "evidence_changed",
            "Evidence changed",
            _USAGE,
            "The instance tells another story of a lead than when it was billed: ask the client.",
        ),
        Class(
            "lead_unbilled",
            "Lead not billed",
            _USAGE,
            "It came late: the next billing run bills it, marked late.",
        ),
        Class(
            "ai_unbilled",
            "AI usage not billed",
            _USAGE,
            "It came late: the next run bills it, up to the cap.",
        ),
        Class(
            "ai_overbilled",
            "AI usage overbilled",
            _USAGE,
            "The instance counts less than was billed: credit it.",
        ),
        Class(
            "not_billed",
            "Month not billed",
            _USAGE,
            "The month is over and has no invoice: plan a billing run.",
        ),
        Class("held", "Held", _USAGE, "The invoice waits for a person: look at the reason and release it."),
        Class("mirror_missing", "Not in the mirror", _MIRROR, "Read the instance's invoices again."),
        Class("mirror_extra", "Only in the mirror", _MIRROR, "Read the instance's invoices again."),
        Class("mirror_differs", "Mirror differs", _MIRROR, "Read the instance's invoices again."),
        Class(
            "mirror_stale",
            "Mirror is stale",
            _MIRROR,
            "The mirror is behind: check the instance and the workers.",
        ),
    )
}
