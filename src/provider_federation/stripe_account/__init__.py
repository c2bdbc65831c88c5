"""One Stripe account, by its key: typed calls, verified webhooks, and the crash-safe way to an invoice.

The only importer of the official SDK (16.1.0, API 2026-10-28.endive). How an invoice is placed:
docs/money.md.
"""

from provider_federation.stripe_account.abreast import JOURNAL_CONTRADICTED, place_abreast
from provider_federation.stripe_account.account import API_VERSION, StripeAccount
from provider_federation.stripe_account.errors import (
    DuplicateInvoices,
    StripeFailed,
    TotalsDiffer,
    WebhookIncomplete,
    WebhookNotConfigured,
    WebhookRefused,
)
from provider_federation.stripe_account.order import (
    Began,
    Finished,
    InvoiceOrder,
    Journal,
    ManyJournal,
    OrderCustomer,
    OrderLine,
    StepRecord,
)
from provider_federation.stripe_account.place import Placement, ensure_customer, place_invoice
from provider_federation.stripe_account.set_up import ensure_price
from provider_federation.stripe_account.shapes import (
    StripeAccountInfo,
    StripeCustomer,
    StripeEvent,
    StripeInvoice,
    StripeLine,
    StripePaymentMethod,
    StripePrice,
    StripeProduct,
    StripeSubscription,
    StripeSubscriptionItem,
    StripeWebhookEndpoint,
)
from provider_federation.stripe_account.shapes_corrections import (
    StripeCharge,
    StripeCreditNote,
    StripeCreditNoteLine,
    StripePayment,
    StripeRefund,
)
from provider_federation.stripe_account.steps import KEY_LIFE, Done, Patience, Step, run_step
from provider_federation.stripe_account.transport import Pace
from provider_federation.stripe_account.webhook import verify_webhook

__all__ = [
    "API_VERSION",
    "JOURNAL_CONTRADICTED",
    "KEY_LIFE",
    "Began",
    "Done",
    "DuplicateInvoices",
    "Finished",
    "InvoiceOrder",
    "Journal",
    "ManyJournal",
    "OrderCustomer",
    "OrderLine",
    "Pace",
    "Patience",
    "Placement",
    "Step",
    "StepRecord",
    "StripeAccount",
    "StripeAccountInfo",
    "StripeCharge",
    "StripeCreditNote",
    "StripeCreditNoteLine",
    "StripeCustomer",
    "StripeEvent",
    "StripeFailed",
    "StripeInvoice",
    "StripeLine",
    "StripePayment",
    "StripePaymentMethod",
    "StripePrice",
    "StripeProduct",
    "StripeRefund",
    "StripeSubscription",
    "StripeSubscriptionItem",
    "StripeWebhookEndpoint",
    "TotalsDiffer",
    "WebhookIncomplete",
    "WebhookNotConfigured",
    "WebhookRefused",
    "ensure_customer",
    "ensure_price",
    "place_abreast",
    "place_invoice",
    "run_step",
    "verify_webhook",
]
