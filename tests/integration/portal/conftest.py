"""Tests that commit leave their rows behind; those are deleted after each, which is all that Django's flush is for.

Its TRUNCATE makes every table and index anew, and its post_migrate writes content types again: half a second each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import TransactionTestCase
from psycopg import sql

_KEPT = {"django_content_type", "auth_permission"}  # made by migrate, and the same ever after


def _delete_rows(_case: Any) -> None:
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - _KEPT
    # The jobs' tables are no models of Django's making.
    tables |= {name for name in connection.introspection.table_names() if name.startswith("procrastinate_")}
    asked = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {} WHERE EXISTS (SELECT 1 FROM {})").format(sql.Literal(name), sql.Identifier(name))
        for name in sorted(tables)
    )
    with connection.cursor() as cursor:
        cursor.execute(asked)
        filled = [name for (name,) in cursor.fetchall()]
        # As a replica no trigger and no foreign key is looked at, so that the order of tables does not matter.
        cursor.execute("SET session_replication_role = replica")
        for name in filled:
            cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
        cursor.execute("SET session_replication_role = DEFAULT")


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", _delete_rows)
        yield
