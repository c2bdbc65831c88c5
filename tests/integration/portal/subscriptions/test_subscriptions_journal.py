"""The journal of calls to Stripe keeps what stripe_account.Journal promises."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from tests.integration.portal.revenue.rig import NOW

from provider_federation.portal.subscriptions.journal import DatabaseJournal, JournalContradicted

pytestmark = pytest.mark.django_db(transaction=True)
LATER = NOW + timedelta(days=2)


def test_a_step_is_begun_renewed_and_finished():
    journal = DatabaseJournal()
    assert journal.load("order") == {}
    journal.begin("order", "invoice", "key/1", NOW)
    journal.begin("order", "invoice", "key/2", LATER)
    [(name, step)] = journal.load("order").items()
    assert (name, step.idempotency_key, step.at, step.first_at, step.result_id) == (
        "invoice",
        "key/2",
        LATER,
        NOW,
        None,
    )
    journal.finish("order", "invoice", "in_1", LATER)
    journal.finish("order", "invoice", "in_1", LATER)
    journal.begin("order", "invoice", "key/3", LATER)
    step = journal.load("order")["invoice"]
    assert (step.idempotency_key, step.result_id) == ("key/2", "in_1")


def test_two_results_of_one_step_are_a_matter_for_a_person():
    journal = DatabaseJournal()
    journal.begin("order", "invoice", "key/1", NOW)
    journal.finish("order", "invoice", "in_1", NOW)
    with pytest.raises(JournalContradicted) as caught:
        journal.finish("order", "invoice", "in_2", NOW)
    assert not caught.value.retryable
    assert journal.load("order")["invoice"].result_id == "in_1"


def test_it_refuses_to_write_where_a_rollback_could_take_it_back():
    with transaction.atomic(), pytest.raises(RuntimeError):
        DatabaseJournal().begin("order", "invoice", "key/1", NOW)
