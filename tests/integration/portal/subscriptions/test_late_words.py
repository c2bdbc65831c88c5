"""What Stripe did counts from when it did it, however late we hear of it (money rule 13)."""

from __future__ import annotations

from tests.integration.portal.subscriptions.moves import moment

from provider_federation.portal.subscriptions.models import PlanChange


def test_a_scheduled_downgrade_holds_from_the_end_of_its_period_however_late_it_is_told(desk, grow):
    grow("ada")
    made = desk.subscribe(plan="ELITE")
    desk.change(made, "PRO")
    desk.go("2026-04-20T12:00:00")
    history = list(PlanChange.objects.order_by("effective_at", "id").values_list("plan", "effective_at"))
    assert history == [("ELITE", moment("2026-03-10T12:00:00")), ("PRO", moment("2026-04-10T12:00:00"))]
