"""Run the suites: `tools/run_tests.py` runs all of them, `tools/run_tests.py portal -k sync` one, with
pytest's arguments behind it.

A suite is one pytest process tree with one Django settings module (the portal and the instance are two
programs). All of
them share one temporary PostgreSQL from the wheel, which ends with this command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from psycopg import sql

from provider_federation.portal.database import embedded_database

ROOT = Path(__file__).resolve().parent.parent
PORTAL, INSTANCE = "provider_federation.portal.settings", "provider_federation.instance.settings"

# name: (folders, Django settings or None, extra environment)
SUITES: dict[str, tuple[list[str], str | None, dict[str, str]]] = {
    "unit": (["tests/unit", "tests/contract"], None, {}),
    "portal": (["tests/integration/portal"], PORTAL, {}),
    "instance": (["tests/integration/instance"], INSTANCE, {"DATABASE_URL": ""}),
    "instance-postgres": (["tests/integration/instance"], INSTANCE, {}),
    "scenarios": (["tests/scenarios", "tests/attacks", "tests/crash", "tests/browser"], None, {}),
}

# Made anew for each run, and not dropped at its end: the whole server goes with this command, and a drop would
# wait for the sessions of pools and workers that are still closing.
_KEPT = ["--create-db", "--reuse-db"]


def main(arguments: list[str]) -> int:
    chosen = [arguments[0]] if arguments and arguments[0] in SUITES else list(SUITES)
    extra = arguments[1:] if arguments and arguments[0] in SUITES else arguments
    with tempfile.TemporaryDirectory(prefix="pf-tests-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103  the database runs as a user of its own when we are root
        url = embedded_database(Path(folder) / "postgres")
        _hurry(url)
        results = {name: _run(name, url, Path(folder), extra) for name in chosen}
    if len(results) > 1:
        print(
            "\n".join(
                f"{name:20} {'passed' if code == 0 else f'FAILED ({code})'}  {seconds:.0f} s"
                for name, (code, seconds) in results.items()
            )
        )
    return max(code for code, _ in results.values())


def _hurry(url: str) -> None:
    """This server's disk need not survive a power cut: it goes with this command. Processes still may crash."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
        connection.execute("SELECT pg_reload_conf()")


def _run(name: str, url: str, folder: Path, extra: list[str]) -> tuple[int, float]:
    folders, settings, more = SUITES[name]
    named = [argument for argument in extra if (ROOT / argument.split("::")[0]).exists()]
    present = [] if named else [path for path in folders if list((ROOT / path).rglob("test_*.py"))]
    if not present and not named:
        return 0, 0.0
    environment = {
        **os.environ,
        "PROVIDER_FEDERATION_ENV": "development",
        "DATABASE_URL": url,
        "TEST_POSTGRES_URL": url,
        "PORTAL_DATA_DIR": str(folder / "portal"),
        "INSTANCE_DATA_DIR": str(folder / name),
        "PYTHONWARNINGS": "error",
        **more,
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        *([] if extra else ["-q"]),
        *([f"--ds={settings}", *_KEPT] if settings else []),
    ]
    if not any(argument.startswith("-n") for argument in extra):
        command += ["-n", "2"]  # who runs beside whom: tests/scheduling.py
    started = time.monotonic()
    print(f"— {name}", flush=True)
    code = subprocess.run([*command, *present, *extra], cwd=ROOT, env=environment, check=False).returncode
    return code, time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
