"""What the simulator serves, one file for each of Stripe's resources. Importing this package fills the route
table.
"""

from provider_federation.testing.stripe_sim.objects import (  # noqa: F401  importing registers the routes
    account,
    balance,
    credit_notes,
    customers,
    events,
    invoice_items,
    invoice_life,
    invoice_lines,
    invoice_preview,
    invoices,
    partial_payments,
    payment_methods,
    payments,
    prices,
    products,
    refunds,
    subscription_items,
    subscription_schedules,
    subscriptions,
    tax_rates,
    webhook_endpoints,
)
