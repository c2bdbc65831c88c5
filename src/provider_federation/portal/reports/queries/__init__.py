"""The reports' figures, each from grouped queries, with the currencies side by side."""

from provider_federation.portal.reports.queries.ai_usage import AiRow, AiUsage, ai_usage
from provider_federation.portal.reports.queries.covered import Covered, covered
from provider_federation.portal.reports.queries.kinds import Kinds, KindsRow, revenue_by_kind
from provider_federation.portal.reports.queries.owed import OwedRow, owed
from provider_federation.portal.reports.queries.recurring import Movement, MovementRow, mrr

__all__ = [
    "AiRow",
    "AiUsage",
    "Covered",
    "Kinds",
    "KindsRow",
    "Movement",
    "MovementRow",
    "OwedRow",
    "ai_usage",
    "covered",
    "mrr",
    "owed",
    "revenue_by_kind",
]
