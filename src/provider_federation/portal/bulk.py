"""Many rows in one statement, their values as one JSON document: for the few places that write thousands.

Django's `bulk_create` and `save` bind and quote each value in Python; here PostgreSQL takes the document apart, which
costs this process a fraction. No signals, no `pre_save`, no expressions: values go in as the objects have them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from django.db import connection
from django.db.models import Field, Model
from django.db.models.options import Options

_Fields = tuple["Field[Any, Any]", ...]
_MOST = 2000
"""Rows in one statement, so that a client with very many leads is no very large document."""


def insert_all(rows: Sequence[Model], *, replace: tuple[str, ...] = (), unique: tuple[str, ...] = ()) -> None:
    """Insert these rows of one model in this order; keys that the database makes are theirs afterwards.

    `replace`: of rows that exist already by their `unique` fields, these fields are written instead; who asks for
    that gets no keys back. IntegrityError and DataError as from any insert.
    """
    for start in range(0, len(rows), _MOST):
        chunk = rows[start : start + _MOST]
        model = type(chunk[0])
        with connection.cursor() as cursor:
            cursor.execute(_insert(model, replace, unique), [_document(chunk, _inserted(model))])
            keys = cursor.fetchall() if cursor.description else [(row.pk,) for row in chunk]
        for row, (key,) in zip(chunk, keys, strict=True):
            row.pk = key
            row._state.adding = False  # noqa: SLF001  a later save() of it is an update, as after any insert


def update_all(rows: Sequence[Model], fields: tuple[str, ...]) -> None:
    """Write these fields of rows of one model, found by their keys."""
    for start in range(0, len(rows), _MOST):
        chunk = rows[start : start + _MOST]
        model = type(chunk[0])
        given = (_options(model).pk, *_named(model, fields))
        with connection.cursor() as cursor:
            cursor.execute(_update(model, fields), [_document(chunk, given)])


def names_of_fields(model: type[Model]) -> tuple[str, ...]:
    """Every field of the model by name."""
    return tuple(field.name for field in _options(model).concrete_fields)


def _document(rows: Sequence[Model], fields: _Fields) -> str:
    names = [(field.column, field.attname) for field in fields]
    values = [{column: getattr(row, name) for column, name in names} for row in rows]
    return json.dumps(values, default=str, allow_nan=False)


@lru_cache(maxsize=64)
def _insert(model: type[Model], replace: tuple[str, ...], unique: tuple[str, ...]) -> str:
    options, fields = _options(model), _inserted(model)
    columns = _columns(fields)
    query = f"INSERT INTO {_quoted(options.db_table)} ({columns}) SELECT {columns} FROM {_given(fields)}"  # noqa: S608  names of our own models, quoted
    if replace:
        new = ", ".join(f"{name} = excluded.{name}" for name in map(_column, _named(model, replace)))
        return f"{query} ON CONFLICT ({_columns(_named(model, unique))}) DO UPDATE SET {new}"
    return query if options.pk in fields else f"{query} RETURNING {_column(options.pk)}"


@lru_cache(maxsize=64)
def _update(model: type[Model], names: tuple[str, ...]) -> str:
    options, fields = _options(model), _named(model, names)
    table, key = _quoted(options.db_table), _column(options.pk)
    new = ", ".join(f"{name} = given.{name}" for name in map(_column, fields))
    given = _given((options.pk, *fields))
    return f"UPDATE {table} SET {new} FROM {given} WHERE {table}.{key} = given.{key}"  # noqa: S608  names of our own models, quoted


def _given(fields: _Fields) -> str:
    # Without the length in the type: a value that is too long is refused by the table, and not cut here.
    typed = (f"{_column(field)} {(field.rel_db_type(connection) or '').split('(')[0]}" for field in fields)
    return f"jsonb_to_recordset(%s::jsonb) AS given ({', '.join(typed)})"


@lru_cache(maxsize=64)
def _inserted(model: type[Model]) -> _Fields:
    """All but what the database makes by itself."""
    serial = {"AutoField", "BigAutoField"}
    fields = _options(model).concrete_fields
    return tuple(one for one in fields if not one.generated and one.get_internal_type() not in serial)


def _named(model: type[Model], names: Collection[str]) -> _Fields:
    return tuple(field for field in _options(model).concrete_fields if field.name in names)


def _options(model: type[Model]) -> Options[Any]:
    return model._meta  # noqa: SLF001  Django's documented "Model _meta API"


def _columns(fields: _Fields) -> str:
    return ", ".join(map(_column, fields))


def _column(field: Field[Any, Any]) -> str:
    return _quoted(str(field.column))


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
