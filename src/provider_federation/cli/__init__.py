"""The command `provider-federation`: arguments and printing only. Each module here holds one group of
commands.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

# name of the group: (module, one line for --help)
_GROUPS = {
    "portal": ("portal", "Run and look after the Provider Portal."),
    "instance": ("instance", "Run and look after a client instance (the reference app)."),
}
_COMMANDS = {
    "stripe-sim": ("stripe_sim", "stripe_sim"),
    "demo": ("demo", "demo"),
    "call": ("call", "call"),
    "sign": ("sign", "sign"),
}


def main() -> None:
    """Entry point. Without the `cli` extra there is one clear line instead of a traceback."""
    try:
        import typer
    except ModuleNotFoundError:
        sys.exit(
            "The command line needs its extra: pip install 'provider-federation[cli]' (or [portal], [instance], [demo])."
        )
    from provider_federation import __version__
    from provider_federation.kit.env import ConfigInvalid
    from provider_federation.kit.problem import Problem

    app = typer.Typer(
        help=f"Provider Federation {__version__}: one portal for the many client instances of an app.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
    )
    # Only what was asked for is imported: `stripe-sim` needs no Django, `sign` needs neither.
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, (module, text) in _GROUPS.items():
        if asked not in {*_GROUPS, *_COMMANDS} - {name}:
            app.add_typer(_load(module).app, name=name, help=text)
    for name, (module, function) in _COMMANDS.items():
        if asked not in {*_GROUPS, *_COMMANDS} - {name}:
            app.command(name)(getattr(_load(module), function))
    app.callback(help=app.info.help)(_root)
    try:
        app()
    except (Problem, ConfigInvalid) as problem:
        print(f"{problem} [{problem.code}]", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as missing:
        sys.exit(_what_to_install(asked, missing))
    except Exception as error:
        if not _is_behind(error):
            raise
        sys.exit("The database is not up to date: run `provider-federation portal migrate` first.")


def _what_to_install(asked: str, missing: ModuleNotFoundError) -> str:
    if (missing.name or "").startswith(__package__.partition(".")[0]):
        raise missing
    extra = asked if asked in {"instance", "demo"} else "portal"
    return f"{missing.name} is not installed: this command needs pip install 'provider-federation[{extra}]'."


def _is_behind(error: Exception) -> bool:
    return type(error.__cause__).__name__ in {"UndefinedTable", "UndefinedColumn"}


def _root() -> None:
    """A callback keeps Typer from folding a single command into the root."""


def _load(module: str) -> Any:
    return importlib.import_module(f"provider_federation.cli.{module}")
