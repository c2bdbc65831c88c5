"""The first page: figures, how complete they are, and what needs a person."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from provider_federation.portal.dashboard.attention import attention
from provider_federation.portal.dashboard.charts import clients_chart, provider_chart
from provider_federation.portal.dashboard.modes import expected_mode, misfits, mode_fits
from provider_federation.portal.dashboard.pages import page, requires
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.queries import totals
from provider_federation.portal.revenue.periods import month_now
from provider_federation.portal.revenue.queries import LedgerTotals, ledger_entries


@require_GET
@requires("billing.read")
def overview(request: HttpRequest) -> HttpResponse:
    by_month, by_client = totals("month"), totals("client")
    entries = ledger_entries()
    month = month_now()
    this_month: dict[str, LedgerTotals] = {}
    for entry in entries:
        if month.contains(entry.billed_at):
            so_far = this_month.get(entry.currency, LedgerTotals())
            this_month[entry.currency] = so_far.plus(entry.totals)
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
        provider_chart=provider_chart(entries, settings.PROVIDER_TIME_ZONE),
        items=attention(),
        misfits=misfits(fits),
        fitting=len(fits) - len(misfits(fits)),
        expected=expected_mode(),
    )
