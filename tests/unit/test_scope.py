"""What an operator's word is about: text and back, and the same deliveries in hand as in the table."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.errors import EngineError
from engine.message.envelope import MessageClass
from engine.queue.scope import Scope
from engine.storage.spool.entry import State
from engine.storage.spool.spool import Spool
from tests.support.spool import cool, id_of, name_of, put, rows_of, whole_spool

names = st.text(min_size=1, max_size=30)
scopes = st.one_of(
    st.just(Scope("all")),
    st.builds(Scope, st.sampled_from(["tenant", "batch"]), names),
    st.builds(Scope, st.just("class"), st.sampled_from(["transactional", "bulk"])),
    st.builds(
        Scope,
        st.just("destination"),
        st.sampled_from(["example.org", "xn--bcher-kva.example", "localhost", "sms:alpha", "account:shop"]),
    ),
    st.builds(Scope, st.just("message"), st.sampled_from(["a", "b", "zz"]).map(id_of)),
)


async def spool_with_all_kinds(path: Path) -> Spool:
    spool = await whole_spool(path)
    for number, domain in enumerate(["one.test", "two.test"] * 6):
        await put(
            spool, f"m{number:02}", domain=domain, user=["", "acme", "tenant:acme"][number % 3],
            batch=["", "spring", "one.test"][number // 2 % 3], message_class=number % 2,
        )  # fmt: skip
    return spool


ALL_KINDS = [
    Scope("all"), Scope("destination", "one.test"), Scope("destination", "never.test"), Scope("tenant", "acme"),
    Scope("tenant", "tenant:acme"), Scope("tenant", "nobody"), Scope("batch", "spring"), Scope("batch", "one.test"),
    Scope("class", "transactional"), Scope("class", "bulk"), Scope("message", id_of("m03")),
    Scope("message", id_of("m99")), Scope("message", "no id"),
]  # fmt: skip


@given(scopes)
def test_what_str_gives_is_understood_again(scope: Scope) -> None:
    assert Scope.stored(str(scope)) == scope


def test_what_an_operator_types_is_parsed(tmp_path: Path) -> None:
    async def story() -> None:
        spool = await spool_with_all_kinds(tmp_path)
        cool(spool, *list(spool.in_hand)[:6])
        for scope in ALL_KINDS:
            if scope.kind != "message":
                assert Scope.parse(str(scope), spool) == scope
        assert Scope.parse(id_of("m01"), spool) == Scope("message", id_of("m01")), "a row"
        assert Scope.parse(id_of("m09"), spool) == Scope("message", id_of("m09")), "in hand"
        assert Scope.parse("sms:Alpha", spool) == Scope("destination", "sms:Alpha")
        assert Scope.parse("account:tenant", None) == Scope("destination", "account:tenant")
        assert Scope.parse("Bücher.example", spool) == Scope("destination", "xn--bcher-kva.example")
        assert Scope.parse("tenant:ada@home.test", spool) == Scope("tenant", "ada@home.test")
        for text, reason in {
            "class:urgent": "a class is transactional or bulk", "": "no domain name", "a b": "no domain name",
            "tenant:": "needs a name", "batch:": "needs a name",
        }.items():  # fmt: skip
            with pytest.raises(EngineError, match=reason):
                Scope.parse(text, spool)
        await spool.close()

    asyncio.run(story())


def test_rows_and_deliveries_in_hand_are_told_apart_alike(tmp_path: Path) -> None:
    async def story() -> None:
        spool = await spool_with_all_kinds(tmp_path)
        held = {str(scope): {name_of(d.message.id) for d in scope.in_hand(spool)} for scope in ALL_KINDS}
        assert held["*"] == {f"m{n:02}" for n in range(12)}
        assert len(held["tenant:acme"]) == 4 and len(held["batch:spring"]) == 4 and len(held["class:bulk"]) == 6
        assert held[f"message:{id_of('m03')}"] == {"m03"}
        cool(spool)
        for scope in ALL_KINDS:
            rows = [int(row) for part in scope.rows(spool) for row in part]
            assert {name_of(spool.id_of(row)) for row in rows} == held[str(scope)]
            assert scope.in_hand(spool) == []
        spool.table.move_many(rows_of(spool, "m00"), State.HELD)
        found = np.concatenate(list(Scope("class", "transactional").rows(spool, state=State.HELD)))
        assert [name_of(spool.id_of(row)) for row in found.tolist()] == ["m00"]
        assert MessageClass(spool.table.get(int(found[0]), "message_class")) is MessageClass.TRANSACTIONAL
        await spool.close()

    asyncio.run(story())
