"""Adding, checking, editing, keys: against a real database and a real loopback instance."""

from __future__ import annotations

import base64
import secrets
import socket
import threading

import pytest
from django.db import IntegrityError, connections, transaction
from django.utils.timezone import timedelta
from tests.integration.portal.directory.remote import SECRET, Remote, remote

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.audit.services import verify_chain
from provider_federation.portal.directory import queries, services
from provider_federation.portal.directory.models import Instance, InstanceKey
from provider_federation.portal.directory.services import NewKey

pytestmark = pytest.mark.django_db
ACTOR = "operator:ada@example.com"


@pytest.fixture(autouse=True)
def _here(settings) -> None:
    settings.ALLOWED_PRIVATE_HOSTS = ("127.0.0.1",)
    settings.DEVELOPMENT = True


def add(there: Remote | str, **extra) -> Instance:
    url = there if isinstance(there, str) else there.url
    fields = {
        "name": "acme",
        "org_id": "org-acme",
        "title": "Acme",
        "key": NewKey("key-1", SECRET),
        "actor": ACTOR,
        **extra,
    }
    return services.add_instance(base_url=url, **fields)


def kinds() -> list[str]:
    return [event.kind for event in AuditEvent.objects.order_by("number")]


def test_add_checks_at_once() -> None:
    with remote() as there:
        instance = add(there.url + "/")
    assert instance.base_url == there.url
    assert (instance.check_ok, instance.check_code, instance.remote_mode, instance.remote_version) == (
        True,
        "ok",
        "sha256",
        "9.9",
    )
    assert instance.remote_capabilities == ["billing", "usage"]
    assert abs(instance.clock_offset_ms) < 2000
    assert there.seen == ["/api/system/federation.status"] * 2
    assert kinds() == ["instance.added", "instance.checked"]
    assert (instance.ai_cap_cents, instance.currency, instance.version) == (5000, "usd", 1)


@pytest.mark.parametrize(
    ("there", "code"),
    [
        ({"secret": "another-secret-of-some-length"}, "bad_signature"),
        ({"enabled": False}, "federation_off"),
        ({"ignores_signatures": True}, "signature_ignored"),
        ({"name": "other"}, "response_identity_mismatch"),
        ({"org": "org-other"}, "response_identity_mismatch"),
        ({"shift": -4000.0}, "timestamp_out_of_window"),
        ({"algorithm": "h31"}, None),
    ],
)
def test_what_a_check_finds(there: dict, code: str | None) -> None:
    with remote(**there) as instance_there:
        instance = add(instance_there)
    assert instance.check_ok is False
    assert code is None or instance.check_code == code
    assert instance.check_message
    assert SECRET not in instance.check_message
    if "shift" in there:
        assert -4_005_000 < instance.clock_offset_ms < -3_995_000
        assert "behind" in instance.check_message


def test_an_instance_that_is_not_there_yet_can_be_added() -> None:
    with remote() as there:
        pass
    instance = add(there)
    assert (instance.check_ok, instance.check_code) == (False, "connect_failed")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com", "base_url_not_allowed"),
        ("https://127.0.0.2", "ssrf_blocked"),
        ("https://169.254.169.254", "ssrf_blocked"),
        ("https://user@example.com", "base_url_not_allowed"),
        ("https://localhost:8000", "ssrf_blocked"),
    ],
)
def test_the_guard_stands_before_the_row(url: str, code: str) -> None:
    with pytest.raises(Problem) as caught:
        add(url)
    assert (caught.value.status, caught.value.code) == (422, code)
    assert not Instance.objects.exists()
    assert not AuditEvent.objects.exists()


def test_a_public_name_with_an_inner_address_is_refused_when_it_is_stored(monkeypatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: [(0, 0, 0, "", ("10.0.0.5", 443))])
    with pytest.raises(Problem) as caught:
        add("https://instance.example")
    assert caught.value.code == "ssrf_blocked"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Acme"),
        ("name", "a b"),
        ("name", "-a"),
        ("name", ""),
        ("name", "x" * 64),
        ("org_id", ""),
        ("org_id", "a b"),
        ("currency", "USD"),
        ("currency", "eu"),
        ("ai_cap_cents", -1),
        ("billing_email", "nobody"),
        ("title", "x" * 201),
        ("environment", ""),
    ],
)
def test_fields_are_checked(field: str, value: object) -> None:
    with remote() as there, pytest.raises(Problem) as caught:
        add(there, **{field: value})
    assert (caught.value.status, caught.value.code) == (400, "invalid_field")
    assert not Instance.objects.exists()


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (NewKey("key-1", ""), "invalid_key"),
        (NewKey("key-1", "short"), "weak_secret"),
        (NewKey("key-1", "a" * 40), "weak_secret"),
        (NewKey("key-1", "x" * 600 + SECRET), "invalid_key"),
        (NewKey("key 1", SECRET), "invalid_key"),
        (NewKey("", SECRET), "invalid_key"),
        (NewKey("key-1", SECRET, "md5"), "invalid_key"),
        (NewKey("key-1", SECRET, "sha256", "admin"), "invalid_key"),
        (NewKey("key-1", SECRET + "\n"), "invalid_key"),
        (NewKey("key-1", "short", "h31"), "weak_secret"),
    ],
)
def test_keys_are_checked(key: NewKey, code: str) -> None:
    with remote() as there, pytest.raises(Problem) as caught:
        add(there, key=key)
    assert caught.value.code == code
    assert not Instance.objects.exists()
    assert key.secret == "" or key.secret not in str(caught.value)


def test_h31_is_for_development(settings) -> None:
    key = NewKey("key-1", SECRET, "h31")
    with remote(algorithm="h31") as there:
        instance = add(there, key=key)
        assert instance.check_ok
        settings.DEVELOPMENT = False
        assert services.check_instance(instance).check_code == "cannot_sign"
        with pytest.raises(Problem) as caught:
            add(there, name="b", org_id="b", key=key)
    assert (caught.value.status, caught.value.code) == (422, "algorithm_not_allowed")


def test_the_secret_is_sealed_to_its_row() -> None:
    with remote() as there:
        first, second = (
            add(there),
            add(there, name="b", org_id="org-b", key=NewKey("key-1", "Qm4vT9xL1rW6nB3yKd8J")),
        )
    one, two = queries.current_key(first), queries.current_key(second)
    assert SECRET not in one.sealed
    assert queries.target_of(first).key.secret == SECRET.encode()
    assert queries.target_of(second).key.secret == b"Qm4vT9xL1rW6nB3yKd8J"
    InstanceKey.objects.filter(pk=two.pk).update(sealed=one.sealed)
    target = queries.target_of(queries.get_by_name("b"))
    assert target.key is None
    assert "cannot be opened" in target.key_problem
    assert SECRET not in repr(queries.target_of(first))


def test_master_keys_can_be_changed(settings) -> None:
    with remote() as there:
        instance = add(there)
    old = dict(settings.MASTER_KEYS)
    new = {"new1": base64.b64decode(base64.b64encode(secrets.token_bytes(32)))}
    settings.MASTER_KEYS = new | old
    assert queries.target_of(instance).key is not None
    settings.MASTER_KEYS = new
    assert queries.target_of(instance).key is None


def test_the_window_of_a_key() -> None:
    now = clock.now()
    with remote() as there:
        instance = add(there, key=NewKey("key-1", SECRET, not_before=now + timedelta(hours=1)))
        assert instance.check_code == "cannot_sign"
        with pytest.raises(Problem):
            add(there, name="b", org_id="b", key=NewKey("key-1", SECRET, not_before=now, not_after=now))


def test_names_and_orgs_are_taken_once() -> None:
    with remote() as there:
        add(there)
        for extra in ({"org_id": "org-b"}, {"name": "b"}):
            with pytest.raises(Problem) as caught:
                add(there, **extra)
            assert (caught.value.status, caught.value.code) == (409, "instance_exists")
    assert Instance.objects.count() == 1
    assert verify_chain().ok


def test_edit_with_the_version_that_was_seen() -> None:
    with remote() as there:
        instance = add(there)
        edited = services.edit_instance(instance.pk, 1, actor=ACTOR, title="Acme Ltd", ai_cap_cents=0)
        assert (edited.title, edited.ai_cap_cents, edited.version) == ("Acme Ltd", 0, 2)
        with pytest.raises(Problem) as caught:
            services.edit_instance(instance.pk, 1, actor=ACTOR, title="Other")
        assert (caught.value.status, caught.value.code) == (409, "conflict")
        assert (
            services.edit_instance(instance.pk, 2, actor=ACTOR, title="Acme Ltd").version == 2
        )  # nothing changed
        assert len(there.seen) == 2
        moved = services.edit_instance(
            instance.pk, 2, actor=ACTOR, base_url=there.url.replace("127.0.0.1", "127.0.0.1") + "/app"
        )
        assert moved.base_url.endswith("/app")
        assert there.seen[-1] == "/app/api/system/federation.status"
    with pytest.raises(Problem) as caught:
        services.edit_instance(instance.pk, 3, actor=ACTOR, base_url="https://10.0.0.1")
    assert caught.value.code == "ssrf_blocked"
    with pytest.raises(Problem) as caught:
        services.edit_instance(instance.pk, 3, actor=ACTOR, org_id="other")
    assert caught.value.code == "unknown_field"
    event = AuditEvent.objects.get(kind="instance.edited", facts__after__title="Acme Ltd")
    assert event.facts["before"] == {"title": "Acme", "ai_cap_cents": 5000}


def test_disable_and_enable() -> None:
    with remote() as there:
        instance = add(there)
        assert not services.disable_instance(instance.pk, 1, actor=ACTOR).enabled
        assert services.disable_instance(instance.pk, 2, actor=ACTOR).version == 2
        assert list(queries.enabled_instances()) == []
        assert services.enable_instance(instance.pk, 2, actor=ACTOR).version == 3
    assert kinds() == [
        "instance.added",
        "instance.checked",
        "instance.disabled",
        "instance.enabled",
        "instance.checked",
    ]


def test_replace_a_key() -> None:
    with remote() as there:
        instance = add(there)
        there.secret = "Qm4vT9xL1rW6nB3yKd8J"
        assert not services.check_instance(instance).check_ok
        replaced = services.replace_key(instance.pk, 1, NewKey("key-1", there.secret), actor=ACTOR)
        assert (replaced.check_ok, replaced.version) == (True, 2)
        with pytest.raises(Problem) as caught:  # the form was submitted twice
            services.replace_key(instance.pk, 1, NewKey("key-1", there.secret), actor=ACTOR)
        assert caught.value.code == "conflict"
    assert instance.keys.count() == 2
    assert instance.keys.filter(retired_at__isnull=True).count() == 1
    assert there.secret not in str(list(AuditEvent.objects.values_list("facts", flat=True)))


def test_the_database_holds_one_key_in_use() -> None:
    with remote() as there:
        instance = add(there)
    row = queries.current_key(instance)
    row.pk, row._state.adding = None, True
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save(force_insert=True)


def test_the_systems_own_checks_are_audited_when_something_changed() -> None:
    with remote() as there:
        instance = add(there)
        services.check_instance(instance)
        assert kinds() == ["instance.added", "instance.checked"]
        there.enabled = False
        services.check_instance(instance)
        assert kinds() == ["instance.added", "instance.checked", "instance.checked"]


@pytest.mark.django_db(transaction=True)
def test_two_operators_at_once() -> None:
    with remote() as there:
        instance = add(there)
    results: list[str] = []

    def edit(number: int) -> None:
        try:
            services.edit_instance(instance.pk, 1, actor=ACTOR, title=f"Title {number}")
            results.append("ok")
        except Problem as problem:
            results.append(problem.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == ["conflict"] * 4 + ["ok"]


def rows(count: int) -> None:
    for number in range(count):
        at = clock.now() + timedelta(seconds=number // 2)  # pairs of the same age
        Instance.objects.create(
            name=f"i{number:02}",
            org_id=f"org{number}",
            title=f"Title {number % 3}",
            base_url=f"https://i{number}.example",
            created_at=at,
            updated_at=at,
            check_ok={0: None, 1: True, 2: False}[number % 3],
            enabled=number % 4 != 0,
        )


@pytest.mark.parametrize("sort", queries.SORTS)
def test_pages_show_each_row_once_in_order(sort: str) -> None:
    rows(11)
    names, cursor = [], ""
    while cursor is not None:
        page = queries.list_instances(sort=sort, cursor=cursor, limit=3)
        assert page.total == 11
        names += [row.name for row in page.items]
        cursor = page.next_cursor
    assert len(names) == len(set(names)) == 11
    values = [getattr(Instance.objects.get(name=name), sort.removeprefix("-")) for name in names]
    assert values == sorted(values, reverse=sort.startswith("-"))


def test_filters() -> None:
    rows(12)
    assert queries.list_instances(state="ok").total == 4
    assert queries.list_instances(state="failing").total == 4
    assert queries.list_instances(state="unchecked").total == 4
    assert queries.list_instances(enabled=False).total == 3
    assert queries.list_instances(search="I07").total == 1
    assert queries.list_instances(search="%").total == 0
    assert queries.list_instances(search="' OR 1=1 --").total == 0
    assert queries.list_instances(mode="v2").total == 0


@pytest.mark.parametrize(
    "options",
    [
        {"sort": "sealed"},
        {"sort": "keys__sealed"},
        {"sort": "name;"},
        {"state": "x"},
        {"cursor": "x"},
        {"search": "a\x00"},
        {"cursor": "WyJ4IiwieSJd"},
        {"cursor": "WyJ4IiwiMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwIl0"},
    ],
)
def test_bad_options(options: dict) -> None:
    with pytest.raises(Problem) as caught:
        queries.list_instances(**options)
    assert caught.value.status == 400


def test_many_targets_in_two_queries(django_assert_num_queries) -> None:
    with remote() as there:
        for number in range(3):
            add(there, name=f"i{number}", org_id=f"o{number}")
    with django_assert_num_queries(2):
        pairs = queries.targets_of(queries.enabled_instances())
    assert [(row.name, target.name, target.org_id) for row, target in pairs] == [
        (f"i{n}", f"i{n}", f"o{n}") for n in range(3)
    ]
    assert all(target.key for _, target in pairs)


def test_unknown_ids() -> None:
    for look in (
        lambda: queries.get_instance("x"),
        lambda: queries.get_by_name("x"),
        lambda: queries.get_by_org("x"),
    ):
        with pytest.raises(Problem) as caught:
            look()
        assert caught.value.status == 404
