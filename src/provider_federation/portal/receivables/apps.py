from django.apps import AppConfig


class ReceivablesConfig(AppConfig):
    name = "provider_federation.portal.receivables"
    label = "receivables"

    def ready(self) -> None:
        # The rooms below know nothing of this one: here it takes part in what they do.
        from provider_federation.portal.receivables.services import dunning, mirror
        from provider_federation.portal.revenue.services.events import handles
        from provider_federation.portal.revenue.services.sweep import sweeps
        from provider_federation.portal.subscriptions.entitlements import restricts

        handles("credit_note.", mirror.apply_credit_note)
        handles("refund.", mirror.apply_refund)
        handles("charge.refund", mirror.apply_charge_refunds)
        handles("invoice.", dunning.after_invoice)
        sweeps(mirror.sweep_credit_notes)
        sweeps(mirror.sweep_refunds)
        sweeps(dunning.sweep_restrictions)
        restricts(dunning.is_escalated)
