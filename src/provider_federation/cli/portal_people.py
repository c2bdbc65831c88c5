"""`provider-federation portal user …` and `portal token …`: who may use the portal."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from provider_federation.cli.portal_shell import actor, hidden, load_portal

user = typer.Typer(no_args_is_help=True, help="Operators: the people who sign in to the portal.")
token = typer.Typer(no_args_is_help=True, help="API tokens: the programs that call the portal.")

Role = Annotated[str, typer.Option(help="admin, billing or support")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@user.command("add")
def user_add(
    email: str, name: str = "", role: Role = "support", *, password_stdin: FromStdin = False
) -> None:
    """Add an operator who can sign in at once."""
    load_portal()
    from provider_federation.portal.operators import services

    password = _password(from_stdin=password_stdin)
    operator = services.add_operator(email=email, password=password, role=role, name=name, actor=actor())
    print(f"{operator.email} may sign in as {operator.role}.")


@user.command("list")
def user_list() -> None:
    """The operators, by address."""
    load_portal()
    from provider_federation.portal.operators.models import Operator

    for operator in Operator.objects.order_by("email"):
        state = "active" if operator.is_active else "switched off"
        print(f"{operator.email}\t{operator.role}\t{state}\t{operator.name}")


@user.command("password")
def user_password(email: str, *, password_stdin: FromStdin = False) -> None:
    """Set an operator's password; every session of theirs ends."""
    load_portal()
    from provider_federation.portal.operators import services

    services.set_password(_operator(email).pk, _password(from_stdin=password_stdin), actor=actor())
    print(f"{email} has a new password.")


@user.command("role")
def user_role(
    email: str,
    role: str,
    *,
    active: Annotated[
        bool | None,
        typer.Option("--active/--inactive", help="Whether they may sign in; as it is when left out."),
    ] = None,
) -> None:
    """Set an operator's role, and whether they may sign in at all."""
    load_portal()
    from provider_federation.portal.operators import services

    operator = _operator(email)
    stays = operator.is_active if active is None else active
    services.change_operator(operator.pk, actor=actor(), role=role, name=operator.name, is_active=stays)
    print(f"{email} is {role}{'' if stays else ', and may not sign in'}.")


@user.command("forget-factors")
def user_forget_factors(email: str) -> None:
    """For an operator who lost the device and the recovery codes: sign-in asks for the password alone, until they
    set up another second factor.
    """
    load_portal()
    from provider_federation.portal.operators.factors import forget_factors

    forgotten = forget_factors(_operator(email).pk, actor=actor())
    print(f"{forgotten} second factors of {email} are forgotten.")


@token.command("make")
def token_make(
    name: str,
    role: Role = "support",
    days: Annotated[int, typer.Option(min=0, max=36_500, help="Days it is good for; 0: no end.")] = 0,
) -> None:
    """Make a token and print it, this once."""
    load_portal()
    from datetime import timedelta

    from provider_federation.kit import clock
    from provider_federation.portal.operators import services

    expires_at = clock.now() + timedelta(days=days) if days else None
    _row, secret = services.create_token(name=name, role=role, actor=actor(), expires_at=expires_at)
    print(secret)


@token.command("list")
def token_list() -> None:
    """The tokens, newest first; never their secrets."""
    load_portal()
    from provider_federation.portal.operators.models import ApiToken

    for row in ApiToken.objects.order_by("-created_at"):
        print(f"{row.pk}\t{row.prefix}…\t{row.role}\t{row.state}\t{row.name}")


@token.command("revoke")
def token_revoke(name: str) -> None:
    """End a token at once."""
    load_portal()
    from provider_federation.kit.problem import not_found
    from provider_federation.portal.operators import services
    from provider_federation.portal.operators.models import ApiToken

    row = ApiToken.objects.filter(name=name).first()
    if row is None:
        raise not_found("token")
    services.revoke_token(row.pk, actor=actor())
    print(f"{name} is revoked.")


def _operator(email: str) -> Any:
    from provider_federation.kit.problem import not_found
    from provider_federation.portal.operators.models import Operator

    found = Operator.objects.filter(email__iexact=email).first()
    if found is None:
        raise not_found("operator")
    return found


def _password(*, from_stdin: bool) -> str:
    return hidden("Password", from_stdin=from_stdin, twice=True)
