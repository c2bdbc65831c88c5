"""The closed vocabulary of audit events. A kind is never renamed: old rows carry it."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """`<room>.<what happened>`. Add a line here before recording something new."""

    # operators
    SIGNED_IN = "operator.signed_in"
    SIGN_IN_FAILED = "operator.sign_in_failed"
    SIGNED_OUT = "operator.signed_out"
    OPERATOR_ADDED = "operator.added"
    OPERATOR_CHANGED = "operator.changed"
    OPERATOR_DEACTIVATED = "operator.deactivated"
    PASSWORD_CHANGED = "operator.password_changed"  # noqa: S105  the name of an event
    MFA_CHANGED = "operator.mfa_changed"
    TOKEN_MADE = "token.made"  # noqa: S105  the name of an event
    TOKEN_REVOKED = "token.revoked"  # noqa: S105  the name of an event
    RESEALED = "portal.resealed"
    # directory
    INSTANCE_ADDED = "instance.added"
    INSTANCE_EDITED = "instance.edited"
    INSTANCE_DISABLED = "instance.disabled"
    INSTANCE_ENABLED = "instance.enabled"
    INSTANCE_CHECKED = "instance.checked"
    INSTANCE_KEY_REPLACED = "instance.key_replaced"
    INSTANCE_KEY_MADE = "instance.key_made"
    INSTANCE_KEY_ROTATED = "instance.key_rotated"
    INSTANCE_KEY_REVOKED = "instance.key_revoked"
    INSTANCE_ENROLLED = "instance.enrolled"
    INSTANCE_RATCHET_SET = "instance.ratchet_set"
    INSTANCE_RATCHET_RESET = "instance.ratchet_reset"
    INSTANCE_CALLED = "instance.called"
    # fleet
    RUN_STARTED = "fleet.run_started"
    RUN_CANCELLED = "fleet.run_cancelled"
    RUN_RETRIED = "fleet.run_retried"
    RUN_FINISHED = "fleet.run_finished"
    SYNC_RESTARTED = "fleet.sync_restarted"
    # subscriptions
    SUBSCRIPTION_CREATED = "subscription.created"
    SUBSCRIPTION_CHANGED = "subscription.changed"
    SUBSCRIPTION_CANCELLED = "subscription.cancelled"
    ENTITLEMENT_CHANGED = "entitlement.changed"
    ENTITLEMENT_PUBLISHED = "entitlement.published"
    CUSTOMER_DELETED = "customer.deleted"
    AI_TERMS_SET = "subscription.ai_terms_set"
    # revenue
    USAGE_INVOICED = "revenue.usage_invoiced"
    USAGE_HELD = "revenue.usage_held"
    USAGE_RELEASED = "revenue.usage_released"
    USAGE_ABANDONED = "revenue.usage_abandoned"
    USAGE_INVOICE_CHANGED = "revenue.usage_invoice_changed"
    WEBHOOK_REFUSED = "revenue.webhook_refused"
    WEBHOOK_ALERT = "revenue.webhook_alert"
    ALERT_RESOLVED = "revenue.alert_resolved"
    WEBHOOK_RETRIED = "revenue.webhook_retried"
    STRIPE_SWEPT = "revenue.stripe_swept"
    # receivables
    INVOICE_VOIDED = "receivables.invoice_voided"
    INVOICE_WRITTEN_OFF = "receivables.invoice_written_off"
    CREDIT_NOTE_ASKED = "receivables.credit_note_asked"
    CREDIT_NOTE_CHANGED = "receivables.credit_note_changed"
    REFUND_ASKED = "receivables.refund_asked"
    REFUND_CHANGED = "receivables.refund_changed"
    DISPUTE_FILED = "receivables.dispute_filed"
    DISPUTE_RAISED = "receivables.dispute_raised"
    DISPUTE_DECIDED = "receivables.dispute_decided"
    DUNNING_STEP = "receivables.dunning_step"
    # billing runs
    BILLING_PLAN_STARTED = "billing_run.plan_started"
    BILLING_PLANNED = "billing_run.planned"
    BILLING_APPROVED = "billing_run.approved"
    BILLING_EXECUTED = "billing_run.executed"
    BILLING_FINISHED = "billing_run.finished"
    BILLING_CANCELLED = "billing_run.cancelled"
    BILLING_RETRIED = "billing_run.retried"
    BILLING_ITEM_HELD = "billing_run.item_held"
    # reconciliation
    RECONCILIATION_STARTED = "reconciliation.started"
    RECONCILED = "reconciliation.done"
    REPAIR_REQUESTED = "reconciliation.repair_requested"
    REPAIRED = "reconciliation.repaired"
    REPAIR_FAILED = "reconciliation.repair_failed"
    # the trail itself
    EXPORTED = "export.made"
