"""The example apps: federated in at most ten lines each, and driven by the portal's own code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import ANY

import pytest
from tests.processes import wait_for_port

from provider_federation.demo.processes import free_ports
from provider_federation.portal.directory import checks
from provider_federation.portal.shim import Answered, Call, RefusedThere, Shim, Target, call_now
from provider_federation.protocol import Key

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "9f1c0d7be24a4f55a6d38e90b7c1e2f3"
KEY = Key("portal-1", "hmac-sha256", SECRET.encode())
MARK = "# federation"
ENVIRONMENT = {
    "PROVIDER_FEDERATION_ENABLED": "1",
    "INSTANCE_NAME": "acme",
    "PROVIDER_KEYS_JSON": json.dumps({"portal-1": {"algorithm": "hmac-sha256", "secret": SECRET}}),
}
UVICORN = ["-m", "uvicorn", "--log-level", "critical", "--lifespan", "off", "--port"]
GUNICORN = ["-m", "gunicorn", "--log-level", "critical", "--no-control-socket", "--threads", "2", "--bind"]
APPS = {
    "fastapi": ("fastapi_app", [*UVICORN, "{port}", "app:app"]),
    "flask": ("flask_app", [*GUNICORN, "127.0.0.1:{port}", "app:app"]),
    "django-wsgi": ("django_app", [*GUNICORN, "127.0.0.1:{port}", "wsgi:application"]),
    "django-asgi": ("django_app", [*UVICORN, "{port}", "asgi:application"]),
    "readme": ("", [*UVICORN, "{port}", "snippet:app"]),
}


def _snippets() -> list[str]:
    """The README's programs: the app, and who calls it."""
    found = re.findall(r"   ```python\n(.*?)   ```", (EXAMPLES.parent / "README.md").read_text(), re.DOTALL)
    return [textwrap.dedent(program) for program in found]


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """All of them, side by side."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "snippet.py").write_text(_snippets()[0])
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(_running(EXAMPLES / place if place else folder, command, tmp_path_factory.mktemp(name)))
            for name, (place, command) in APPS.items()
        }  # fmt: skip
        for port, process in started.values():
            wait_for_port(process, port)
        yield {name: port for name, (port, _) in started.items()}


@contextmanager
def _running(folder: Path, command: list[str], data: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    [port] = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    environment |= ENVIRONMENT | {
        "PROVIDER_REPLAY_STORE": str(data / "used.sqlite3"), "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    arguments = [part.format(port=port) for part in command]
    with subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment) as process:
        try:
            yield port, process
        finally:
            process.terminate()


def _target(port: int, key: Key = KEY) -> Target:
    return Target("acme", f"http://127.0.0.1:{port}", "", key, private_hosts=("127.0.0.1",))


def _plain(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize("app", ["fastapi_app", "flask_app", "django_app"])
def test_federated_in_at_most_ten_lines(app: str) -> None:
    sources = {path: path.read_text() for path in (EXAMPLES / app).glob("*.py")}
    marked = [line for text in sources.values() for line in text.splitlines() if line.endswith(MARK)]
    assert 0 < len(marked) <= 10
    for path, text in sources.items():
        before = "\n".join(line for line in text.splitlines() if not line.endswith(MARK))
        compile(before, str(path), "exec")
        assert "federation" not in before.partition('"""')[2].partition('"""')[2]


@pytest.mark.parametrize("app", ["fastapi", "flask", "django-wsgi", "django-asgi"])
def test_a_portal_reads_and_writes(ports: dict[str, int], app: str) -> None:
    """Through the portal's shim, which takes an answer only when it is signed for this very request."""
    target = _target(ports[app])
    listed = call_now(target, Call("GET", "/api/billing/list"))
    assert isinstance(listed, Answered), listed
    assert listed.data["items"][-1]["customer"] == "Blue Door Ltd"
    order = {"customer": "Café Zürich", "total_cents": 990}
    made = call_now(target, Call("POST", "/api/billing/invoices.create", body=order))
    assert isinstance(made, Answered), made
    assert (made.status, made.data["by"], made.data["invoice"]["totalCents"]) == (201, "portal-1", 990)
    assert call_now(target, Call("GET", "/api/billing/list")).data["items"][0]["customer"] == "Café Zürich"


@pytest.mark.parametrize("app", ["fastapi", "flask", "django-wsgi", "django-asgi", "readme"])
def test_the_portal_is_content_with_it(ports: dict[str, int], app: str) -> None:
    async def check() -> checks.Check:
        async with Shim(concurrency=2, per_host=2) as shim:
            return await checks.probe(shim, _target(ports[app]))

    content = checks.Check(True, "ok", "Answers signed calls.", ANY, "v2", scheme="v2")
    assert asyncio.run(check()) == content


@pytest.mark.parametrize("app", ["fastapi", "flask", "django-wsgi", "django-asgi"])
def test_its_staff_go_on_as_before_and_strangers_stay_outside(ports: dict[str, int], app: str) -> None:
    url = f"http://127.0.0.1:{ports[app]}/api/billing/list"
    assert _plain(url, Authorization="Bearer staff")[0] == 200
    assert _plain(url)[0] in {401, 403}
    assert _plain(url, Authorization="Bearer staff", Signature="pf=:AA==:")[0] in {400, 401}
    stranger = Key("portal-1", "hmac-sha256", b"another secret, and not that one")
    refused = call_now(_target(ports[app], stranger), Call("GET", "/api/billing/list"))
    assert not isinstance(refused, Answered)
    assert not isinstance(refused, RefusedThere)  # nobody vouches for that answer: it counts as none


def test_the_snippet_of_the_readme(ports: dict[str, int]) -> None:
    listed = call_now(_target(ports["readme"]), Call("GET", "/api/billing/list"))
    assert isinstance(listed, Answered), listed
    assert listed.data["for"] == "portal-1"
    status, body = _plain(f"http://127.0.0.1:{ports['readme']}/api/billing/list")
    assert (status, json.loads(body)["reason"]) == (401, "missing_headers")
    scheme = json.loads(_plain(f"http://127.0.0.1:{ports['readme']}/openapi.json")[1])
    assert scheme["paths"]["/api/billing/list"]["get"]["security"] == [{"ProviderFederation": []}]
    assert "ProviderFederation" in scheme["components"]["securitySchemes"]


@pytest.mark.parametrize("program", ["call.py", "README"])
def test_calling_as_the_readme_says(ports: dict[str, int], program: str) -> None:
    url = f"http://127.0.0.1:{ports['readme']}/api/billing/list"
    command = (
        [str(EXAMPLES / "call.py"), url]
        if program == "call.py"
        else ["-c", _snippets()[1].replace("http://127.0.0.1:8000/api/billing/list", url)]
    )
    environment = os.environ | {"SECRET": SECRET, "INSTANCE_NAME": "acme", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "portal-1" in done.stdout
