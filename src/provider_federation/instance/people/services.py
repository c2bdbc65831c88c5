"""Adding people and changing what they may do."""

from __future__ import annotations

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from provider_federation.instance.people.models import Person, Role
from provider_federation.kit.problem import Problem, not_found


def add_person(email: str, password: str, *, name: str = "", role: str = Role.VIEWER) -> Person:
    """A new person who can sign in. Problem `invalid_field`, `weak_password` or `person_exists`."""
    email = _checked_email(email)
    person = Person(
        email=email, name=name or email.partition("@")[0].replace(".", " ").title(), role=_checked_role(role)
    )
    _set_password(person, password)
    try:
        with transaction.atomic():
            person.save(force_insert=True)
    except IntegrityError:
        raise Problem(409, "person_exists", f"{email} has an account already.") from None
    return person


def set_password(email: str, password: str) -> Person:
    """Give an existing person a new password; every session of theirs ends with the old one."""
    person = find_person(email)
    _set_password(person, password)
    person.save(update_fields=["password"])
    return person


def set_role(email: str, role: str) -> Person:
    """Another role from the next request on. Problem `invalid_field`, or 409 `last_owner`."""
    wanted = _checked_role(role)
    with transaction.atomic():
        person = _changing(email, stays_owner=wanted == Role.OWNER)
        person.role = wanted
        person.save(update_fields=["role"])
    return person


def set_active(email: str, *, active: bool) -> Person:
    """Whether somebody may sign in; without it their sessions end at once. 409 `last_owner`."""
    with transaction.atomic():
        person = _changing(email, stays_owner=active)
        person.is_active = active
        person.save(update_fields=["is_active"])
    return person


def find_person(email: str) -> Person:
    try:
        return Person.objects.get_by_natural_key(email.strip())
    except Person.DoesNotExist:
        raise not_found("person") from None


def _changing(email: str, *, stays_owner: bool) -> Person:
    """The person, locked with every active owner: two owners cannot remove each other in the same moment."""
    owners = list(Person.objects.select_for_update().filter(role=Role.OWNER, is_active=True).order_by("pk"))
    person = find_person(email)
    if not stays_owner and [owner.pk for owner in owners] == [person.pk]:
        raise Problem(
            409, "last_owner", "This is the last owner who can sign in; make somebody else an owner first."
        )
    return person


def _set_password(person: Person, password: str) -> None:
    try:
        validate_password(password, person)
    except ValidationError as error:
        raise Problem(400, "weak_password", " ".join(error.messages)) from None
    person.set_password(password)


def _checked_email(email: str) -> str:
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise Problem(400, "invalid_field", "email: this is not an email address.", field="email") from None
    return email


def _checked_role(role: str) -> Role:
    if role not in Role.values:
        raise Problem(400, "invalid_field", f"role: must be one of {', '.join(Role.values)}.", field="role")
    return Role(role)
