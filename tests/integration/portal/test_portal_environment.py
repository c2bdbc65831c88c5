"""What the portal takes from its environment, and what stops it at start."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

_READ = """
import sys
from provider_federation.kit.env import ConfigInvalid
try:
    from provider_federation.portal import settings
except ConfigInvalid as error:
    print(error.code, error)
    sys.exit(3)
print(settings.SECURE, *settings.CSRF_TRUSTED_ORIGINS)
"""


def start(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PORTAL_DATA_DIR": str(folder),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
        "PROVIDER_FEDERATION_ENV": "production",
        "PORTAL_SECRET_KEY": secrets.token_urlsafe(48),
        "PORTAL_MASTER_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        **more,
    }
    command = [sys.executable, "-c", _READ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("secret", ["changeme", "x" * 60])
def test_a_secret_key_that_can_be_guessed_does_not_start(tmp_path, secret):
    done = start(tmp_path, PORTAL_SECRET_KEY=secret)
    assert (done.returncode, done.stdout.split(" ")[0]) == (3, "config_weak_secret"), done
    assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "address", ["https://portal.example", "https://portal.example/", "HTTPS://Portal.Example"]
)
def test_one_spelling_of_the_address_is_as_good_as_another(tmp_path, address):
    """With another origin than browsers send, every form would be refused; without Secure, cookies travel bare."""
    done = start(tmp_path, PORTAL_BASE_URL=address)
    assert done.stdout.split() == ["True", "https://portal.example"], done


@pytest.mark.parametrize(
    "address", ["portal.example", "https://", "ftp://portal.example", "https://portal.example/portal"]
)
def test_what_is_no_address_does_not_start(tmp_path, address):
    done = start(tmp_path, PORTAL_BASE_URL=address)
    assert (done.returncode, done.stdout.split(" ")[1]) == (3, "PORTAL_BASE_URL:"), done
