"""Keys that both sides agree on, with a real instance: enrolment, rotation, revocation, the ratchet; and their page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.test import Client
from tests.integration.portal.directory.paired_instance import SECRET, RealInstance, real_instance

from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.directory import pairing, queries, services
from provider_federation.portal.directory.checks import Check
from provider_federation.portal.directory.models import Instance, InstanceKey, KeyStatus
from provider_federation.portal.operators.models import Operator
from provider_federation.portal.shim import BadAnswer, Call, call_now

pytestmark = pytest.mark.django_db
STATUS = Call("GET", "/api/system/federation.status")


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Iterator[RealInstance]:
    with real_instance(tmp_path_factory.mktemp("paired")) as instance:
        yield instance


@pytest.fixture(autouse=True)
def _allowed(settings) -> None:
    settings.ALLOWED_PRIVATE_HOSTS = ["127.0.0.1"]


def add(there: RealInstance, **more) -> Instance:
    fields = {"name": "acme", "org_id": "org-acme", "base_url": there.url, "actor": "test", **more}
    return services.add_instance(**fields)


@pytest.fixture
def paired(there) -> Instance:
    return add(there, code=there.code())


def kinds() -> list[str]:
    return [event.kind for event in AuditEvent.objects.order_by("number")]


def test_a_code_pairs_both_sides(paired) -> None:
    assert (paired.check_ok, paired.check_message) == (True, "Answers signed calls.")
    key = queries.current_key(paired)
    assert (key.algorithm, key.status, key.scheme) == ("ed25519", "in_use", "v2")
    assert key.answered_at is not None
    assert paired.v2_since is not None
    assert paired.remote_policy["actions"] == {"draft": True, "send": True}
    assert {"instance.enrolled", "instance.ratchet_set"} <= set(kinds())
    assert key.public_key not in key.sealed


def test_99_the_same_code_again_pairs_nobody(there) -> None:
    code = there.code()
    first = add(there, code=code)
    key = queries.current_key(first)
    with pytest.raises(Problem, match="enrolment_closed") as refused:
        services.enrol_instance(first.pk, first.version, code, actor="test")
    assert (refused.value.status, refused.value.code) == (502, "enrolment_failed")
    assert queries.current_key(Instance.objects.get()) == key


def test_a_mistyped_code_leaves_no_row(there) -> None:
    with pytest.raises(Problem) as refused:
        add(there, code="pf-guess")
    assert refused.value.code == "invalid_code"
    assert not Instance.objects.exists()


def test_a_wrong_code_shows_as_the_check(there) -> None:
    from provider_federation.protocol.pairing import new_code

    added = add(there, code=new_code())
    assert (added.check_ok, added.check_code) == (False, "enrolment_failed")
    assert queries.current_key(added) is None
    again = services.enrol_instance(added.pk, added.version, there.code(), actor="test")
    assert again.check_ok is True


def test_rotation_introduces_confirms_and_retires(paired) -> None:
    old = queries.current_key(paired)
    rotated = services.rotate_key(paired.pk, paired.version, actor="test")
    new = queries.current_key(rotated)
    assert rotated.check_ok is True
    assert new != old
    old.refresh_from_db()
    assert (old.status, old.retired_there_at is not None) == (KeyStatus.RETIRED, True)
    assert "instance.key_rotated" in kinds()
    # Calls under way, signed by the old key, still arrive.
    assert call_now(queries.target_under(rotated, old), STATUS).ok


def test_rotation_goes_on_with_the_pair_that_waits(paired) -> None:
    from provider_federation.portal.directory.keys import new_pair

    waiting = new_pair(paired)
    waiting.save()
    rotated = services.rotate_key(paired.pk, paired.version, actor="test")
    assert queries.current_key(rotated) == waiting


def test_147_of_two_rotations_one_is_a_conflict(paired) -> None:
    services.rotate_key(paired.pk, paired.version, actor="test")
    with pytest.raises(Problem) as refused:
        services.rotate_key(paired.pk, paired.version, actor="test")
    assert refused.value.code == "conflict"


def test_81_a_revoked_key_signs_and_calls_no_more(paired) -> None:
    rotated = services.rotate_key(paired.pk, paired.version, actor="test")
    old = InstanceKey.objects.get(status=KeyStatus.RETIRED)
    services.revoke_key(rotated.pk, rotated.version, old.pk, actor="test")
    refused = call_now(queries.target_under(rotated, old), STATUS)
    assert (refused.code, refused.detail) == ("unsigned_answer", "it says 401 unknown_key")
    current = queries.current_key(rotated)
    rotated = services.revoke_key(rotated.pk, rotated.version + 1, current.pk, actor="test")
    assert call_now(queries.target_of(rotated), STATUS).code == "cannot_sign"


def test_66_legacy_is_over_on_both_sides_until_an_admin_resets_the_ratchet(there, paired) -> None:
    legacy = services.NewKey("key-1", SECRET, "sha256")
    with pytest.raises(Problem) as refused:
        services.replace_key(paired.pk, paired.version, legacy, actor="test")
    assert refused.value.code == "downgrade_refused"
    reset = services.reset_ratchet(paired.pk, paired.version, actor="test")
    replaced = services.replace_key(reset.pk, reset.version, legacy, actor="test")
    assert replaced.check_code == "downgrade_refused"  # the instance has a ratchet of its own
    there.run("reset-ratchet")
    assert services.check_instance(replaced).check_ok is True
    assert "instance.ratchet_reset" in kinds()


def test_a_legacy_key_cannot_introduce_another(there) -> None:
    there.run("reset-ratchet")
    added = add(there, key=services.NewKey("key-1", SECRET, "sha256"))
    assert (added.check_ok, added.v2_since) == (True, None)
    with pytest.raises(Problem) as refused:
        services.rotate_key(added.pk, added.version, actor="test")
    assert refused.value.code == "rotation_needs_v2"
    enrolled = services.enrol_instance(added.pk, added.version, there.code(), actor="test")
    assert (enrolled.check_ok, queries.current_key(enrolled).scheme) == (True, "v2")
    old = InstanceKey.objects.get(key_id="key-1")
    assert (old.status, old.retired_there_at is not None) == ("retired", True)


def test_answers_of_somebody_else_count_as_none(paired) -> None:
    from dataclasses import replace

    from provider_federation.protocol import Key
    from provider_federation.protocol.pairing import new_seed

    stranger = Key(paired.response_key_id, "ed25519", secret=new_seed())
    outcome = call_now(replace(queries.target_of(paired), answers=(stranger,)), STATUS)
    assert isinstance(outcome, BadAnswer)
    assert (outcome.reason, outcome.status) == ("wrongly_bound_answer", 200)


def test_a_signed_refusal_tells_the_difference_of_the_clocks(paired, tmp_path, monkeypatch) -> None:
    from provider_federation.kit import clock

    target = queries.target_of(paired)
    path = tmp_path / "clock.json"
    clock.set_clock(path, offset=timedelta(minutes=-20).total_seconds())
    monkeypatch.setenv(clock.CLOCK_VARIABLE, str(path))
    outcome = call_now(target, STATUS)
    assert (outcome.status, outcome.code) == (401, "timestamp_out_of_window")
    assert abs(outcome.clock_offset_ms - 1_200_000) < 3_000
    assert "Its clock is 1" in outcome.sentence
    assert "ahead of ours" in outcome.sentence


@pytest.fixture
def acme(there) -> Instance:
    return add(there)


def signed_in(role: str) -> Client:
    client = Client()
    person = Operator.objects.create(email=f"{role}@keys.example", role=role)
    client.force_login(person, "allauth.account.auth_backends.AuthenticationBackend")
    return client


def post(client: Client, acme: Instance, what: str, **fields: str) -> str:
    """The Keys page after an action, asked for with the version that the page showed."""
    page = f"/instances/{acme.pk}/keys/"
    seen = Instance.objects.get(pk=acme.pk).version
    target = f"/instances/{acme.pk}/{what}/"
    answer = client.post(target, {"version": seen, **fields}, follow=True)
    assert answer.redirect_chain == [(page, 302)], answer.content.decode()
    return answer.content.decode()


def test_pairing_rotating_revoking_and_resetting_by_the_forms(there, acme) -> None:
    admin = signed_in("admin")
    assert "Paired: the instance took a new key" in post(admin, acme, "keys/enrol", code=there.code())
    old = queries.current_key(acme)
    assert "Rotated: the new key is in use" in post(admin, acme, "keys/rotate")
    new = queries.current_key(acme)
    assert new != old
    assert "Revoked: this portal never signs with it again" in post(admin, acme, f"keys/{old.pk}/revoke")
    assert InstanceKey.objects.get(pk=old.pk).status == KeyStatus.REVOKED
    assert Instance.objects.get().v2_since is not None
    assert "Legacy keys may sign for this instance again" in post(admin, acme, "ratchet/reset")
    assert Instance.objects.get().v2_since is None
    conflict = admin.post(
        f"/instances/{acme.pk}/keys/rotate/", {"version": "1"}, follow=True
    ).content.decode()
    assert "Rotated" not in conflict
    assert queries.current_key(acme) == new


def test_a_pair_is_made_shown_by_its_public_half_and_confirmed_when_the_instance_has_it(acme) -> None:
    admin = signed_in("admin")
    page = post(admin, acme, "keys/make")
    waiting = queries.pending_key(acme)
    assert waiting.public_key in page
    assert waiting.sealed not in page
    assert "it is in use" not in post(admin, acme, "keys/confirm")  # the instance does not know it yet
    assert queries.pending_key(acme) == waiting
    assert "it is in use" not in post(admin, acme, "keys/enrol", code="pf-guess")
    assert "PROVIDER_KEYS_JSON=" in page
    assert waiting.key_id in page


def test_who_only_reads_changes_no_key(acme) -> None:
    reader, before = signed_in("support"), list(InstanceKey.objects.order_by("pk").values())
    assert reader.get(f"/instances/{acme.pk}/keys/").status_code == 200
    for what in ("keys/enrol", "keys/make", "keys/confirm", "keys/rotate", "ratchet/reset"):
        assert reader.post(f"/instances/{acme.pk}/{what}/", {"version": "1"}).status_code == 403
    assert list(InstanceKey.objects.order_by("pk").values()) == before


def test_a_second_rotation_meanwhile_leaves_a_key_in_use(paired, monkeypatch) -> None:
    ask, once = pairing._ask, iter([True])

    def slow(target, body) -> None:
        ask(target, body)
        if next(once, False):
            version = Instance.objects.get(pk=paired.pk).version
            services.rotate_key(paired.pk, version, actor="somebody else")

    monkeypatch.setattr(pairing, "_ask", slow)
    rotated = services.rotate_key(paired.pk, paired.version, actor="test")
    assert rotated.check_ok is True
    assert InstanceKey.objects.get(status=KeyStatus.IN_USE) == queries.current_key(rotated)
    assert kinds().count("instance.key_rotated") == 1


def test_a_key_that_was_replaced_while_it_was_confirmed_takes_nothing_from_the_one_in_use(
    paired, monkeypatch
) -> None:
    before = queries.current_key(paired)
    services.make_key(paired.pk, paired.version, actor="test")

    def meanwhile(_target) -> Check:
        version = Instance.objects.get(pk=paired.pk).version
        services.make_key(paired.pk, version, actor="somebody else")
        return Check(True, "ok", "Answers signed calls.", scheme="v2")

    monkeypatch.setattr(pairing, "probe_now", meanwhile)
    with pytest.raises(Problem) as refused:
        services.confirm_key(paired.pk, paired.version + 1, actor="test")
    assert (refused.value.status, refused.value.code) == (409, "conflict")
    assert queries.current_key(Instance.objects.get()) == before
