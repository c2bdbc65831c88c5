"""Reminders of unpaid invoices by e-mail, and the escalation to an operator: each step at most once.

A step's row is committed before anything is sent. Whoever finds the row there leaves the step alone, so
that two workers, or one that died in between, never send twice; a row that stays claimed is shown as unsure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from smtplib import SMTPException
from typing import Protocol

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.template.loader import render_to_string

from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.money import format_amount
from provider_federation.money.period import month_name
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.models import DunningStep, Receivable, StepState
from provider_federation.portal.receivables.outstanding import open_batches
from provider_federation.portal.receivables.queries import about, due_of, kind_of
from provider_federation.portal.receivables.schedule import ESCALATE, ScheduledStep, parse_schedule
from provider_federation.portal.revenue.models import StripeEvent, UsageInvoice, UsageStatus
from provider_federation.portal.revenue.services import raise_alert, refresh_any_invoice
from provider_federation.portal.revenue.services.sweep import Found
from provider_federation.portal.subscriptions.applying import Foreign
from provider_federation.portal.subscriptions.entitlements import update_entitlement
from provider_federation.portal.subscriptions.models import BillingCustomer
from provider_federation.stripe_account import StripeFailed

_log = get_logger("dunning")


@dataclass(frozen=True)
class Reminder:
    """One message to a client about one invoice."""

    to: str
    subject: str
    text: str


class Sender(Protocol):
    """How reminders leave: e-mail by default, a double in tests, another channel some day."""

    def __call__(self, reminder: Reminder) -> None:
        """Send it, or raise OSError or SMTPException."""


def send_by_email(reminder: Reminder) -> None:
    """Through Django's mail, by PORTAL_EMAIL_BACKEND; raises OSError or SMTPException."""
    EmailMessage(reminder.subject, reminder.text, settings.DEFAULT_FROM_EMAIL, [reminder.to]).send()


@dataclass(frozen=True)
class Due:
    """A step whose time has come, and the earlier ones that it makes needless."""

    invoice: Receivable
    step: ScheduledStep
    passed: tuple[ScheduledStep, ...]


def due_steps() -> Iterator[Due]:
    """What would be done now, for each open invoice its latest step that is due and was not done. A batch of
    invoices is in memory at a time, and the next is read when this one is done with.
    """
    schedule = parse_schedule(settings.PROVIDER_DUNNING_SCHEDULE)
    if schedule:
        for batch in open_batches(clock.now() - timedelta(days=schedule[0].days)):
            yield from _due_of(batch, schedule)


def _due_of(invoices: Sequence[Receivable], schedule: Sequence[ScheduledStep]) -> Iterator[Due]:
    now, done = clock.now(), _done(invoices)
    for invoice in invoices:
        due = due_of(invoice)
        ripe = [step for step in schedule if due is not None and step.due_at(due) <= now]
        waiting = [step for step in ripe if (kind_of(invoice), invoice.pk, step.name) not in done]
        if waiting and waiting[-1] == ripe[-1]:
            yield Due(invoice, waiting[-1], tuple(waiting[:-1]))


def _done(invoices: Sequence[Receivable]) -> set[tuple[str, object, str]]:
    """The steps of these invoices that have a row, in one query."""
    usage = [one.pk for one in invoices if isinstance(one, UsageInvoice)]
    fees = [one.pk for one in invoices if not isinstance(one, UsageInvoice)]
    rows = DunningStep.objects.filter(Q(usage_invoice__in=usage) | Q(fee_invoice__in=fees)).order_by()
    return {
        ("usage" if usage else "subscription", usage or fee, step)
        for usage, fee, step in rows.values_list("usage_invoice", "fee_invoice", "step")
    }


def remind_all(sender: Sender = send_by_email) -> list[DunningStep]:
    """Do every step that is due; returns those that this call did. Call outside of transactions."""
    done = []
    for due in due_steps():
        try:
            step = take_step(due, sender)
        except (StripeFailed, Foreign) as failure:  # not known to be unpaid: not reminded of; next time
            _log.warning("not reminded", invoice=due.invoice.stripe_invoice_id, error=str(failure))
            continue
        if step is not None:
            done.append(step)
    return done


def take_step(due: Due, sender: Sender = send_by_email) -> DunningStep | None:
    """Look at the invoice afresh, claim the step, do it. None when it is not owed any more, or somebody
    else has claimed it. Raises `StripeFailed` when Stripe cannot be asked.
    """
    invoice = refresh_any_invoice(str(due.invoice.stripe_invoice_id))
    if invoice.status != UsageStatus.OPEN or invoice.remaining_cents <= 0:
        return None
    step = _claim(invoice, due)
    if step is None:
        return None
    if step.action == ESCALATE:
        _escalate(invoice, step)
    else:
        _remind(invoice, step, sender)
    return step


def is_escalated(instance: Instance, at: datetime) -> bool:
    """Whether an invoice of this client is still unpaid after its escalation; then it is restricted."""
    del at
    rows = DunningStep.objects.filter(instance=instance, action=ESCALATE, state=StepState.SENT)
    usage = rows.filter(usage_invoice__status=UsageStatus.OPEN, usage_invoice__remaining_cents__gt=0)
    fees = rows.filter(fee_invoice__status=UsageStatus.OPEN, fee_invoice__remaining_cents__gt=0)
    return usage.exists() or fees.exists()


def after_invoice(event: StripeEvent) -> str:
    """The handler of `invoice.` events, after the invoice was written: what is paid ends the restriction."""
    steps = DunningStep.objects.filter(action=ESCALATE).select_related("instance")
    usage, fee = (
        Q(**{f"{name}__stripe_invoice_id": event.object_id}) for name in ("usage_invoice", "fee_invoice")
    )
    step = steps.filter(usage | fee).first()
    return "" if step is None else f"client {update_entitlement(step.instance).state}"


def sweep_restrictions(_since: datetime) -> Found:
    """Clients that were escalated, looked at anew: a lost payment event must not keep one restricted."""
    clients = Instance.objects.filter(dunningsteps__action=ESCALATE).distinct()
    for client in clients:
        update_entitlement(client)
    return len(clients), 0


def recipient_of(instance: Instance) -> str:
    """Where the client's bills go, or an empty string."""
    customer = BillingCustomer.objects.filter(instance=instance).first()
    return instance.billing_email or (customer.email if customer else "")


def _claim(invoice: Receivable, due: Due) -> DunningStep | None:
    try:
        with transaction.atomic():
            for step in due.passed:
                _row(invoice, step, StepState.SKIPPED).save()
            row = _row(invoice, due.step, StepState.CLAIMED)
            row.save()
    except IntegrityError:
        return None  # another worker was first
    return row


def _row(invoice: Receivable, step: ScheduledStep, state: StepState) -> DunningStep:
    due = due_of(invoice)
    assert due is not None
    return DunningStep(
        **about(invoice),
        instance=invoice.instance,
        step=step.name,
        action=step.action,
        state=state,
        remaining_cents=invoice.remaining_cents,
        currency=invoice.currency,
        due_at=step.due_at(due),
        claimed_at=clock.now(),
    )


def _remind(invoice: Receivable, step: DunningStep, sender: Sender) -> None:
    reminder = reminder_of(invoice, step)
    step.recipient, step.subject = reminder.to, reminder.subject
    if not reminder.to:
        _finish(step, StepState.FAILED, "This client has no e-mail address for bills.")
        return
    try:
        sender(reminder)
    except (OSError, SMTPException) as error:
        _finish(step, StepState.FAILED, f"{type(error).__name__}: {error}"[:500])
    else:
        _finish(step, StepState.SENT)


def reminder_of(invoice: Receivable, step: DunningStep) -> Reminder:
    """The words of a reminder; kind before the due date, firm after it."""
    amount = format_amount(invoice.remaining_cents, invoice.currency)
    late = (clock.now() - (due_of(invoice) or clock.now())).days
    name = invoice.number or str(invoice.stripe_invoice_id)
    subject = f"Invoice {name}: {amount} " + ("is overdue" if late >= 0 else "is due soon")
    context = {
        "client": invoice.instance.title or invoice.instance.name,
        "invoice": invoice,
        "name": name,
        "amount": amount,
        "late": late,
        "due": due_of(invoice),
        "period": month_name(invoice.period) if isinstance(invoice, UsageInvoice) else "",
        "provider": settings.PROVIDER_NAME,
        "step": step,
    }
    subject = " ".join(subject.split())  # no name can put a second header into a mail
    return Reminder(
        recipient_of(invoice.instance), subject, render_to_string("portal/mail/reminder.txt", context)
    )


def _escalate(invoice: Receivable, step: DunningStep) -> None:
    amount = format_amount(invoice.remaining_cents, invoice.currency)
    name = invoice.number or invoice.stripe_invoice_id
    message = f"{invoice.instance} has not paid {amount} of invoice {name}, reminders or not."
    with transaction.atomic():
        raise_alert("dunning_escalated", f"stripe_invoice:{invoice.stripe_invoice_id}", message)
        step.subject = message[:300]
        _finish(step, StepState.SENT)
    update_entitlement(invoice.instance)


def _finish(step: DunningStep, state: StepState, failure: str = "") -> None:
    with transaction.atomic():
        step.state, step.failure, step.done_at = state, failure, clock.now()
        step.save()
        if state == StepState.FAILED:
            sentence = f"The reminder of {step.invoice} ({step.step}) was not sent: {failure}"
            raise_alert("reminder_failed", f"dunning_step:{step.pk}", sentence[:500])
        facts = {"step": step.step, "action": step.action, "state": state, "to": step.recipient}
        record(Kind.DUNNING_STEP, "system", f"stripe_invoice:{step.invoice.stripe_invoice_id}", **facts)
