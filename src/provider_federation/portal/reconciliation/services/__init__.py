"""Comparing the three books, storing what differs, and mending what is safe to mend."""

from provider_federation.portal.reconciliation.services.ledger import Comparison, compare_provider_account
from provider_federation.portal.reconciliation.services.repairing import (
    repair_rows,
    repairable,
    request_repair,
)
from provider_federation.portal.reconciliation.services.reporting import start_report, work_on_report
from provider_federation.portal.reconciliation.services.stripe_side import Scope

__all__ = [
    "Comparison",
    "Scope",
    "compare_provider_account",
    "repair_rows",
    "repairable",
    "request_repair",
    "start_report",
    "work_on_report",
]
