"""Waiting for an instance holds no database connection: slow instances must not starve the other pages."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from provider_federation.portal.database import lend_connection


@pytest.mark.django_db(transaction=True)
def test_a_lent_connection_is_back_in_the_pool_and_taken_again_by_the_next_query() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    lend_connection()
    assert connection.connection is None
    with connection.cursor() as cursor:
        cursor.execute("SELECT 2")
        assert cursor.fetchone() == (2,)


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_stays() -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        lend_connection()
        assert connection.connection is not None
