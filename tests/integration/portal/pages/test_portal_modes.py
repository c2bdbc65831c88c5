"""The federation banner: what it says of each mode, and what to do about it."""

from __future__ import annotations

import pytest
from django.test import override_settings
from tests.browser import portal_seed

from provider_federation.portal.dashboard.modes import misfits, mode_fit, mode_fits

pytestmark = pytest.mark.django_db


@pytest.fixture
def instance():
    return portal_seed._instance(("acme", "Acme", "sha256", "sha256", "PRO"), "http://127.0.0.1:18999")


@pytest.mark.parametrize(
    ("mode", "expected", "tone", "says"),
    [
        ("sha256", "sha256", "good", ""),
        ("", "sha256", "warn", "check the instance"),
        ("nonsense", "sha256", "warn", "check the instance"),
        ("off", "sha256", "bad", "PROVIDER_FEDERATION_ENABLED=1"),
        ("h31", "sha256", "bad", "enrolment code"),
        ("v2", "sha256", "warn", "PROVIDER_SIGNATURE_MODE=v2"),
        ("sha256", "v2", "warn", "enrolment code"),
        ("h31", "v2", "bad", "enrolment code"),
        ("v2", "v2", "good", ""),
    ],
)
def test_each_mode_against_what_the_portal_expects(instance, mode, expected, tone, says):
    instance.remote_mode = mode
    if (mode, expected) == ("v2", "v2"):
        instance.keys.update(algorithm="ed25519")
    with override_settings(PROVIDER_SIGNATURE_MODE=expected):
        fit = mode_fit(instance)
    assert (fit.tone, fit.fits) == (tone, not says)
    assert says in fit.todo


def test_a_key_of_another_kind_than_the_instance_expects_does_not_fit(instance):
    instance.keys.update(algorithm="h31")
    with override_settings(PROVIDER_SIGNATURE_MODE="sha256"):
        assert "under Keys" in mode_fit(instance).todo


def test_an_instance_that_we_call_by_v2_and_that_takes_legacy_too_is_told(instance):
    instance.keys.update(algorithm="ed25519")
    with override_settings(PROVIDER_SIGNATURE_MODE="v2"):
        fit = mode_fit(instance)
    assert (fit.tone, fit.fits) == ("warn", False)
    assert "older keys" in fit.todo


def test_a_disabled_instance_is_not_judged(instance):
    instance.enabled, instance.remote_mode = False, "off"
    assert mode_fits([instance]) == []
    assert misfits([]) == []
