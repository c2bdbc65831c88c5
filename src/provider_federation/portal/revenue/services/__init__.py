"""The provider's money: what clients owe for a month, their usage invoices, and what Stripe says became of
them.
"""

from provider_federation.portal.revenue.alerts import raise_alert, resolve_alert
from provider_federation.portal.revenue.services.abandoning import abandon_order
from provider_federation.portal.revenue.services.applying import refresh_any_invoice
from provider_federation.portal.revenue.services.events import (
    apply_event,
    handles,
    receive_event,
    retry_event,
)
from provider_federation.portal.revenue.services.invoicing import (
    Invoiced,
    invoice_usage,
    release_usage_invoice,
)
from provider_federation.portal.revenue.services.jobs import defer_forgotten
from provider_federation.portal.revenue.services.placing import place_usage_invoice
from provider_federation.portal.revenue.services.report import (
    AllRevenue,
    ClientRevenue,
    calculate_all_revenue,
    calculate_revenue,
)

__all__ = [
    "AllRevenue",
    "ClientRevenue",
    "Invoiced",
    "abandon_order",
    "apply_event",
    "calculate_all_revenue",
    "calculate_revenue",
    "defer_forgotten",
    "handles",
    "invoice_usage",
    "place_usage_invoice",
    "raise_alert",
    "receive_event",
    "refresh_any_invoice",
    "release_usage_invoice",
    "resolve_alert",
    "retry_event",
]
