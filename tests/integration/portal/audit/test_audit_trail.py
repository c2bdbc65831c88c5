"""The audit trail: in the caller's transaction, without secrets, and tampering is found (threat 146)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.models import AuditEvent, AuditHead
from provider_federation.portal.audit.queries import list_events
from provider_federation.portal.audit.services import Kind, record, verify_chain

pytestmark = pytest.mark.django_db


SWAP = """UPDATE audit_auditevent SET number = 1002 WHERE number = 2; UPDATE audit_auditevent SET number = 2 WHERE number = 3;
          UPDATE audit_auditevent SET number = 3 WHERE number = 1002"""
APPEND = """INSERT INTO audit_auditevent (number, at, kind, actor, subject, facts, previous, hash)
            SELECT 6, at, kind, actor, subject, facts, hash, hash FROM audit_auditevent WHERE number = 5"""


def write(count: int) -> list[AuditEvent]:
    return [
        record(Kind.INSTANCE_EDITED, "operator:a@example.com", f"instance:i{number}", number=number)
        for number in range(count)
    ]


def tamper(sql: str) -> None:
    """As somebody with the database's password would."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_auditevent DISABLE TRIGGER audit_append_only")
        cursor.execute(sql)
        cursor.execute("ALTER TABLE audit_auditevent ENABLE TRIGGER audit_append_only")


def test_events_follow_each_other() -> None:
    first, second = write(2)
    assert (first.number, second.number, second.previous) == (1, 2, first.hash)
    report = verify_chain()
    assert (report.ok, report.checked) == (True, 2)


def test_an_empty_trail_is_whole() -> None:
    assert verify_chain().ok


def test_an_event_stands_or_falls_with_the_change() -> None:
    write(1)
    with transaction.atomic():
        write(1)
        transaction.set_rollback(True)
    assert AuditEvent.objects.count() == 1
    write(1)
    assert verify_chain().checked == 2


def test_the_vocabulary_is_closed() -> None:
    with pytest.raises(ValueError, match=r"nothing\.special"):
        record("nothing.special", "system", "x")
    assert len({kind.value for kind in Kind}) == len(Kind)
    assert all(len(kind.value) <= 64 for kind in Kind)


def test_facts_hold_no_secret_and_are_plain_json() -> None:
    identifier = uuid4()
    event = record(
        Kind.INSTANCE_KEY_REPLACED,
        "operator:a@example.com\nsystem",
        "instance:acme",
        secret="hunter2hunter2",
        key_id="key-1",
        api_key="sk_live_abcdefgh",
        text="Authorization was sk_live_abcdefghijk",
        nested={"password": "p", "list": [Decimal("1.50"), identifier, 1.5]},
        at=datetime(2026, 1, 2, tzinfo=UTC),
        odd="a\x00b\ud800c",
        number=7,
        none=None,
        yes=True,
    )
    event.refresh_from_db()
    facts = event.facts
    assert "hunter2" not in str(facts)
    assert "sk_live" not in str(facts)
    assert facts["key_id"] == "key-1"
    assert facts["nested"] == {"password": "[scrubbed]", "list": ["1.50", str(identifier), "1.5"]}
    assert (facts["at"], facts["odd"], facts["number"], facts["none"], facts["yes"]) == (
        "2026-01-02T00:00:00+00:00",
        "ab?c",
        7,
        None,
        True,
    )
    assert event.actor == "operator:a@example.com system"
    assert verify_chain().ok


@pytest.mark.parametrize(
    ("sql", "broken_at"),
    [
        ("UPDATE audit_auditevent SET facts = '{\"number\": 99}' WHERE number = 2", 2),
        ("UPDATE audit_auditevent SET actor = 'operator:b@example.com' WHERE number = 3", 3),
        ("UPDATE audit_auditevent SET subject = 'instance:x' WHERE number = 1", 1),
        ("UPDATE audit_auditevent SET at = at + interval '1 microsecond' WHERE number = 4", 4),
        ("UPDATE audit_auditevent SET kind = 'instance.added' WHERE number = 5", 5),
        ("DELETE FROM audit_auditevent WHERE number = 3", 3),
        ("DELETE FROM audit_auditevent WHERE number = 1", 1),
        ("DELETE FROM audit_auditevent WHERE number = 5", 5),
        ("DELETE FROM audit_auditevent", 1),
        ("DELETE FROM audit_audithead", 1),
        (SWAP, 2),
        (APPEND, 6),
    ],
)
def test_tampering_is_found(sql: str, broken_at: int) -> None:
    write(5)
    tamper(sql)
    report = verify_chain()
    assert not report.ok
    assert report.broken_at == broken_at
    assert report.problem


def test_the_database_itself_refuses_changes() -> None:
    event = write(1)[0]
    for change in (
        lambda: AuditEvent.objects.update(actor="x"),
        event.delete,
        lambda: AuditEvent.objects.all().delete(),
        lambda: tamper("TRUNCATE audit_auditevent"),
    ):
        with pytest.raises(DatabaseError, match="only ever added"), transaction.atomic():
            change()


@pytest.mark.django_db(transaction=True)
def test_concurrent_events_get_one_order() -> None:
    def one(number: int) -> None:
        try:
            record(Kind.SIGNED_IN, "system", f"thread:{number}")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert verify_chain().checked == 6
    assert AuditHead.objects.get().count == 6


def test_pages() -> None:
    write(7)
    record(Kind.SIGNED_IN, "operator:b@example.com", "operator:b@example.com")
    page = list_events(limit=3)
    assert [event.number for event in page.items] == [8, 7, 6]
    numbers = []
    cursor = ""
    while cursor is not None:
        page = list_events(limit=3, cursor=cursor)
        numbers += [event.number for event in page.items]
        cursor = page.next_cursor
    assert numbers == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [event.number for event in list_events(kind="operator.signed_in").items] == [8]
    assert [event.number for event in list_events(actor="operator:b@example.com").items] == [8]
    assert [event.number for event in list_events(subject="instance:i2").items] == [3]
    with pytest.raises(Problem):
        list_events(cursor="x")


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=20) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=5), json_like, max_size=4),
    st.text(max_size=300),
    st.text(max_size=300),
)
def test_any_facts_survive_the_database(facts: dict, actor: str, subject: str) -> None:
    facts.pop("kind", None)
    record(Kind.SIGNED_IN, actor, subject, **facts)
    assert verify_chain().ok
