"""The packed table: any story of rows, against a dict; and the same over several slabs."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.storage.spool import table as table_module
from engine.storage.spool.entry import State
from engine.storage.spool.segment import file_of, place_of
from engine.storage.spool.table import COLUMNS, SLAB_ROWS, Table

STATES = [State.WAITING, State.DUE, State.HELD, State.LOADING, State.SEIZED]
states = st.sampled_from(STATES)
times = st.integers(0, 20)
picks = st.integers(0, 1 << 16)


def values(seed: int, **more: int) -> dict[str, int]:
    """A row that is like no other."""
    row = {name: (seed * 31 + index) % 251 for index, name in enumerate(COLUMNS)}
    return {**row, "id": seed, "place": place_of(seed % 7, seed), "state_place": 0, "state": State.WAITING, **more}


def columns_of(rows: list[dict[str, int]]) -> dict[str, Any]:
    return {name: np.array([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()}


class Rows(RuleBasedStateMachine):
    """The model: a dict of every row by its number. Slabs are small, so that there are several."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(table_module, "SLAB_ROWS", 8)
        self.table = Table()
        self.model: dict[int, dict[str, int]] = {}
        self.next = itertools.count(1)

    def teardown(self) -> None:
        self.patch.undo()

    @rule(state=states, due_at=times, destination=st.integers(0, 3), recipients=st.integers(1, 5))
    def add(self, state: State, due_at: int, destination: int, recipients: int) -> None:
        row = values(next(self.next), state=state, due_at=due_at, destination=destination, recipients=recipients)
        number = self.table.add(row)
        assert number not in self.model
        self.model[number] = row

    @rule(many=st.lists(st.tuples(states, times), max_size=20))
    def add_many(self, many: list[tuple[State, int]]) -> None:
        rows = [values(next(self.next), state=state, due_at=due_at) for state, due_at in many]
        self.table.add_many(columns_of(rows))
        numbers = {int(row) for part in self.table.select() for row in part} - set(self.model)
        found = {self.table.get(number, "id"): number for number in numbers}
        assert sorted(found) == [row["id"] for row in rows]
        for row in rows:
            self.model[found[row["id"]]] = row

    @precondition(lambda self: self.model)
    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        row = self._picked(pick)
        self.table.remove(row)
        del self.model[row]
        assert not self.table.holds(row)

    @precondition(lambda self: self.model)
    @rule(pick=picks, state=states, due_at=times | st.none())
    def move(self, pick: int, state: State, due_at: int | None) -> None:
        row = self._picked(pick)
        self.table.move(row, state, due_at)
        self._moved([row], state, due_at)

    @rule(first=picks, step=st.integers(1, 5), state=states, due_at=times | st.none())
    def move_many(self, first: int, step: int, state: State, due_at: int | None) -> None:
        rows = sorted(self.model)[first % (len(self.model) + 1) :: step]
        self.table.move_many(np.array(rows, dtype=np.uint32), state, due_at)
        self._moved(rows, state, due_at)

    @precondition(lambda self: self.model)
    @rule(pick=picks, name=st.sampled_from(["place", "state_place", "via", "frame"]), value=st.integers(0, 255))
    def change(self, pick: int, name: str, value: int) -> None:
        row = self._picked(pick)
        self.table.set(row, name, value)
        self.model[row][name] = value

    @rule(now=times)
    def time_comes(self, now: int) -> None:
        due = {row for row, own in self.model.items() if own["state"] == State.WAITING and own["due_at"] <= now}
        taken: list[int] = []
        while len(rows := self.table.take_due(now)):
            assert len(set((rows >> 16).tolist())) == 1, "of one slab"
            taken += rows.tolist()
        assert sorted(taken) == sorted(due)
        self._moved(taken, State.DUE, None)
        assert self.table.next_due is None or self.table.next_due > now

    @invariant()
    def every_row_is_as_it_was_given(self) -> None:
        numbers = np.array(list(self.model), dtype=np.uint32)
        found = self.table.columns(numbers)
        for name in COLUMNS:
            assert found[name].tolist() == [row[name] for row in self.model.values()], name
        assert all(self.table.holds(row) for row in self.model)

    @invariant()
    def counts_are_right(self) -> None:
        assert len(self.table) == len(self.model)
        assert self.table.recipients == sum(row["recipients"] for row in self.model.values())
        for state in State:
            assert self.table.counts[state] == sum(row["state"] == state for row in self.model.values())

    @invariant()
    def nothing_is_due_before_the_table_says_so(self) -> None:
        waiting = [row["due_at"] for row in self.model.values() if row["state"] == State.WAITING]
        if waiting:
            assert self.table.next_due is not None and self.table.next_due <= min(waiting)

    @invariant()
    def select_finds_what_is_there_and_nothing_else(self) -> None:
        for wanted in ({}, {"state": State.HELD}, {"destination": 2}, {"destination": 1, "state": State.WAITING}):
            expected = {n for n, row in self.model.items() if all(row[k] == v for k, v in wanted.items())}
            assert sorted(self._all(self.table.select(**wanted))) == sorted(expected)
        for file in range(7):
            expected = {n for n, row in self.model.items() if file_of(row["place"]) == file}
            assert sorted(self._all(self.table.in_file(file))) == sorted(expected)

    def _picked(self, pick: int) -> int:
        return sorted(self.model)[pick % len(self.model)]

    def _moved(self, rows: list[int], state: State, due_at: int | None) -> None:
        for row in rows:
            self.model[row]["state"] = state
            if due_at is not None:
                self.model[row]["due_at"] = due_at

    @staticmethod
    def _all(parts: Any) -> list[int]:
        return [int(row) for part in parts for row in part]


TestRows = Rows.TestCase
TestRows.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_many_rows_lie_over_slabs_and_come_back_in_any_order() -> None:
    table, count = Table(), 2 * SLAB_ROWS + 1000
    columns = {name: np.zeros(count, dtype=kind) for name, kind in COLUMNS.items()}
    columns["id"] = np.arange(count, dtype="u8")
    columns["state"][:] = State.HELD
    columns["recipients"][:] = 2
    table.add_many(columns)
    assert (len(table.slabs), len(table), table.recipients) == (3, count, 2 * count)
    rows = np.concatenate(list(table.select()))[::-1]
    assert (table.columns(rows, ("id",))["id"] == np.arange(count)[::-1]).all()
    assert table.columns(rows[:0], ("id",))["id"].tolist() == []
    table.set_many(rows[::2], "via", 3)
    assert (table.columns(rows, ("via",))["via"] == np.tile([3, 0], count // 2)).all()


def test_a_slab_that_is_empty_gives_its_memory_back_and_is_used_again() -> None:
    table = Table()
    for number in range(3):
        table.add(values(number))
    before = table.slabs[0]
    for row in range(3):
        table.remove(row)
    assert table.slabs[0] is not before and table.slabs[0].used == 0
    assert table.add(values(9)) == 0
    assert len(table.slabs) == 1


def test_a_message_is_found_by_its_id() -> None:
    table = Table()
    rows = [table.add(values(n, id=n % 3, node=n % 2, number=n)) for n in range(12)]
    assert table.find(1, 0) == [row for n, row in enumerate(rows) if n % 3 == 1 and n % 2 == 0]
    assert table.find(7, 0) == []


def test_rows_are_found_by_their_places() -> None:
    table = Table()
    table.add_many(columns_of([values(number) for number in range(1, 1000)]))
    removed = next(iter(table.at([values(7)["place"]])))
    table.remove(removed)
    found = table.at([values(number)["place"] for number in (3, 7, 900)])
    assert sorted(table.get(row, "id") for row in found) == [3, 900]
