"""Second factors and signing keys: sealed anew under a new master key; forgotten when the device is lost."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from tests.integration.portal.terminal import Terminal

from provider_federation.kit import clock
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.directory.keys import NewKey, open_key, seal_key
from provider_federation.portal.directory.models import Instance, InstanceKey
from provider_federation.portal.operators import services
from provider_federation.portal.operators.models import Operator

pytestmark = pytest.mark.django_db
OLD, NEW = ({name: secrets.token_bytes(32)} for name in ("old", "new"))
SECRET = secrets.token_urlsafe(32)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Terminal]:
    handlers = logging.getLogger().handlers[:]
    yield Terminal(monkeypatch, capsys)
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def instance(settings) -> Instance:
    """Its key and its operator's second factors are sealed with the old master key."""
    settings.MASTER_KEYS = OLD
    now = clock.now()
    row = Instance.objects.create(
        name="ada", org_id="org_ada", base_url="https://ada.example", created_at=now, updated_at=now
    )
    seal_key(row, NewKey("key-ada", SECRET)).save()
    ada = services.add_operator(email="ada@example.com", password="correct horse battery staple")
    TOTP.activate(ada, "JBSWY3DPEHPK3PXP")
    RecoveryCodes.activate(ada)
    return row


def test_after_resealing_the_old_master_key_can_go(terminal, instance, settings):
    codes = RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).generate_codes()
    settings.MASTER_KEYS = NEW | OLD
    said = terminal("portal reseal")
    assert (said.code, said.out) == (0, "3 secrets sealed with the master key new; 3 in all.\n")
    settings.MASTER_KEYS = NEW
    assert open_key(InstanceKey.objects.get(), instance).secret == SECRET.encode()
    assert RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).generate_codes() == codes
    assert AuditEvent.objects.get(kind="portal.resealed").facts == {"changed": 3, "unreadable": 0}
    assert terminal("portal reseal").out == "0 secrets sealed with the master key new; 3 in all.\n"


def test_what_no_master_key_opens_is_said_and_left(terminal, instance, settings):
    settings.MASTER_KEYS = NEW
    before = InstanceKey.objects.get().sealed
    said = terminal("portal reseal")
    assert (said.code, said.err.strip()) == (1, "3 secrets cannot be opened with the master keys at hand.")
    assert InstanceKey.objects.get().sealed == before


def test_an_operator_who_lost_the_device_gets_in_again(terminal, instance):
    ada = Operator.objects.get()
    assert (
        terminal("portal user forget-factors ada@example.com").out
        == "2 second factors of ada@example.com are forgotten.\n"
    )
    assert not Authenticator.objects.filter(user=ada).exists()
    event = AuditEvent.objects.get(kind="operator.mfa_changed")
    assert event.actor.startswith("cli:")
    assert event.facts == {"forgotten": ["recovery_codes", "totp"]}
    assert terminal("portal user forget-factors eve@example.com").code == 2
