"""`provider-federation call`: one signed call to an instance of the directory, as the portal makes it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider_federation.cli.portal_shell import actor, load_portal
from provider_federation.kit.problem import Problem

if TYPE_CHECKING:
    from provider_federation.portal.shim import Outcome


def call(
    instance: Annotated[str, typer.Argument(help="The instance's name in the directory.")],
    method: Annotated[str, typer.Argument(help="GET, POST, …")],
    path: Annotated[
        str, typer.Argument(help="Path and query as they are sent, like /api/billing/preview?range=d30.")
    ],
    body: Annotated[
        str, typer.Option("--json", help="The body as JSON; @FILE reads a file, - reads stdin.")
    ] = "",
    key: Annotated[
        str, typer.Option(help="Idempotency key of a write; one is made when there is none.")
    ] = "",
    timeout: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds for all of it.")] = 15.0,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Send no signature.")] = False,
) -> None:
    """Make one signed call through the portal's own shim and print what came of it.

    The answer's JSON goes to standard output, what it meant to standard error.
    Exit codes: 0 answered, 1 refused or no answer, 2 the call cannot be made.
    """
    load_portal()
    from provider_federation.portal.audit.services import Kind, record
    from provider_federation.portal.directory.queries import get_by_name, target_of
    from provider_federation.portal.shim import Call, call_now

    wanted = Call(
        method.upper(), path, body=_json(body), idempotency_key=key, timeout=timeout, signed=not unsigned
    )
    row = get_by_name(instance)
    if wanted.write:  # before it is sent: what becomes of it may never be known
        facts = {"method": wanted.method, "path": path, "idempotency_key": wanted.idempotency_key}
        record(Kind.INSTANCE_CALLED, actor(), f"instance:{row.name}", **facts)
    sys.exit(_show(call_now(target_of(row), wanted)))


def _show(outcome: Outcome) -> int:
    from provider_federation.portal.shim import Answered

    print(f"{outcome.sentence} [{outcome.code}] {_seconds(outcome)}", file=sys.stderr)
    if isinstance(outcome, Answered):
        print(json.dumps(outcome.data, indent=2, ensure_ascii=False))
    return 0 if outcome.ok else 1


def _seconds(outcome: Outcome) -> str:
    attempts = f", {outcome.attempts} attempts" if outcome.attempts > 1 else ""
    offset = outcome.clock_offset_ms
    clock = "" if offset is None else f", its clock {offset / 1000:+.1f} s"
    return f"({outcome.elapsed:.3f} s{attempts}{clock})"


def _json(text: str) -> Any:
    if not text:
        return None
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        text = _file(text[1:])
    try:
        return json.loads(text)
    except ValueError as error:
        raise Problem(400, "bad_json", f"--json is not JSON: {error}.") from None


def _file(name: str) -> str:
    try:
        with open(name, encoding="utf-8") as file:  # noqa: PTH123  the name may be anything a shell completes
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(
            400, "cannot_read", f"Cannot read {name}: {getattr(error, 'strerror', '') or 'it is not UTF-8'}."
        ) from None
