"""The demo's kept data: found again, never mixed with another demo's, never taken from somebody else's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider_federation.demo.plan import demo_folder, load_or_make


def _make(data: Path, fleet: int = 3, port: int | None = None, *, fresh: bool = False, prepared: bool = True):
    plan = load_or_make(demo_folder(data, fleet, fresh=fresh), fleet=fleet, port=port, months=2, leads=10)
    plan.prepared = prepared
    plan.save()
    return plan


def test_a_finished_demo_is_found_again_with_its_ports_and_secrets(tmp_path: Path) -> None:
    first = _make(tmp_path, port=9400)
    assert (
        load_or_make(demo_folder(tmp_path, 3, fresh=False), fleet=3, port=None, months=2, leads=10) == first
    )


def test_an_unfinished_first_run_is_thrown_away(tmp_path: Path) -> None:
    first = _make(tmp_path, prepared=False)
    (first.folder / "postgres").mkdir()
    again = _make(tmp_path)
    assert again.operator_password != first.operator_password
    assert not (again.folder / "postgres").exists()


def test_fleets_of_different_sizes_keep_different_data(tmp_path: Path) -> None:
    three, five = _make(tmp_path), _make(tmp_path, fleet=5)
    assert three.folder != five.folder
    assert [len(three.instances), len(five.instances)] == [3, 5]
    assert len({instance.port for instance in five.instances} | {five.portal_port, five.stripe_port}) == 7


def test_fresh_starts_over(tmp_path: Path) -> None:
    assert _make(tmp_path).operator_password != _make(tmp_path, fresh=True).operator_password


def test_another_port_for_kept_data_is_refused_with_the_way_out(tmp_path: Path) -> None:
    _make(tmp_path)
    with pytest.raises(ValueError, match="belongs to port 8400; use --fresh"):
        _make(tmp_path, port=9400)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "3-instances" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(ValueError, match="holds something that is no demo"):
            demo_folder(tmp_path, 3, fresh=fresh)
    assert theirs.read_text() == "years of work"


def test_the_plan_is_for_its_owner_only(tmp_path: Path) -> None:
    plan = _make(tmp_path)
    assert (plan.folder / "demo.json").stat().st_mode & 0o077 == 0
