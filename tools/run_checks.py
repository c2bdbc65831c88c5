"""Everything that can be said about the code without running the product: `make check`."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PORTAL, INSTANCE = "provider_federation.portal.settings", "provider_federation.instance.settings"
SOURCE = "src/provider_federation"
SHARED = [
    f"{SOURCE}/{room}" for room in ("protocol", "adapters", "money", "stripe_account", "kit", "testing")
]

# What production needs, with values of the moment: Django's deploy check must find nothing to say about it.
PRODUCTION = {
    "PROVIDER_FEDERATION_ENV": "production",
    "DATABASE_URL": "postgresql://check@127.0.0.1/check",
    "PORTAL_SECRET_KEY": secrets.token_urlsafe(60),
    "PORTAL_MASTER_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
    "PORTAL_BASE_URL": "https://portal.example",
    "PORTAL_ALLOWED_HOSTS": "portal.example",
    "PROVIDER_STRIPE_SECRET_KEY": "sk_test_check",
    "PROVIDER_STRIPE_WEBHOOK_SECRET": "whsec_" + secrets.token_hex(16),
    "INSTANCE_SECRET_KEY": secrets.token_urlsafe(60),
    "INSTANCE_BASE_URL": "https://acme.example",
    "INSTANCE_ALLOWED_HOSTS": "acme.example",
    "INSTANCE_NAME": "acme",
    "INSTANCE_ORG_ID": "org_acme",
    "STRIPE_SECRET_KEY": "sk_test_check",
    "STRIPE_WEBHOOK_SECRET": "whsec_" + secrets.token_hex(16),
}


def _django(settings: str, *arguments: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-W", "error", "-m", "django", *arguments], {
        "DJANGO_SETTINGS_MODULE": settings,
        **environment,
    }


def _own_database(data: str) -> dict[str, str]:
    """makemigrations asks a real database whether its history fits: the embedded one, and SQLite."""
    return {
        **PRODUCTION,
        "DATABASE_URL": "",
        "PORTAL_DATA_DIR": f"{data}/portal",
        "INSTANCE_DATA_DIR": f"{data}/instance",
    }


def _mypy(settings: str, name: str, *paths: str) -> tuple[list[str], dict[str, str]]:
    command = [str(BIN / "mypy"), "--cache-dir", f".mypy_cache/{name}", *paths]
    return command, {**PRODUCTION, "DJANGO_SETTINGS_MODULE": settings}


def _checks(data: str) -> dict[str, tuple[list[str], dict[str, str]]]:
    rooms = [f"{SOURCE}/cli", f"{SOURCE}/demo", *SHARED]
    return {
        "ruff": ([str(BIN / "ruff"), "check", "."], {}),
        "ruff format": ([str(BIN / "ruff"), "format", "--check", "--quiet", "."], {}),
        "import contracts": ([str(BIN / "lint-imports"), "--no-logo"], {}),
        "mypy portal": _mypy(PORTAL, "portal", f"{SOURCE}/portal", *rooms),
        "mypy instance": _mypy(INSTANCE, "instance", f"{SOURCE}/instance"),
        "portal migrations": _django(PORTAL, "makemigrations", "--check", "--dry-run", **_own_database(data)),
        "instance migrations": _django(
            INSTANCE, "makemigrations", "--check", "--dry-run", **_own_database(data)
        ),
        "portal deploy check": _django(PORTAL, "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION),
        "instance deploy check": _django(
            INSTANCE, "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION
        ),
        "committed text": ([sys.executable, "tools/committed_text.py"], {}),
    }


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="pf-check-", ignore_cleanup_errors=True) as data:
        Path(data).chmod(0o755)  # the embedded database runs as a user of its own when we are root
        # One of them per core, the two long ones first; each line is printed when its check ends.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            checks = sorted(_checks(data).items(), key=lambda check: not check[0].startswith("mypy"))
            held = list(pool.map(lambda check: _holds(check[0], *check[1]), checks))
    return 0 if all(held) else 1


def _holds(name: str, command: list[str], environment: dict[str, str]) -> bool:
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    line = f"{'ok    ' if done.returncode == 0 else 'FAILED'} {name} ({time.monotonic() - started:.1f} s)"
    print(line if done.returncode == 0 else f"{line}\n{done.stdout}{done.stderr}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
