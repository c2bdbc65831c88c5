"""The first page: figures, how complete they are, and what needs a person."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from provider_federation.portal.dashboard.attention import attention
from provider_federation.portal.dashboard.billed import billed_by_month
from provider_federation.portal.dashboard.charts import charted_months, clients_chart, provider_chart
from provider_federation.portal.dashboard.modes import expected_mode, misfits, mode_fits
from provider_federation.portal.dashboard.pages import page, requires
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.queries import totals
from provider_federation.portal.revenue.periods import month_now


@require_GET
@requires("billing.read")
def overview(request: HttpRequest) -> HttpResponse:
    by_month, by_client = totals("month"), totals("client")
    billed, month = billed_by_month(charted_months()), month_now()
    this_month: dict[str, int] = {}
    for one in billed:
        if one.month == month.label:
            this_month[one.currency] = this_month.get(one.currency, 0) + one.cents
    fits = mode_fits(Instance.objects.filter(enabled=True).prefetch_related("keys")[:500])
    return page(
        request,
        "overview",
        title="Overview",
        heading="Overview",
        any=Instance.objects.exists(),
        sums=by_month.sums,
        coverage=by_month.coverage,
        by_client=by_client.rows,
        month=month,
        provider=sorted(this_month.items()),
        chart=clients_chart(by_month),
        provider_chart=provider_chart(billed),
        items=attention(),
        misfits=misfits(fits),
        fitting=len(fits) - len(misfits(fits)),
        expected=expected_mode(),
    )
