"""Sites and their ready queues, as the manager uses them: classes, closing, windows, shared connections."""

from pathlib import Path

from engine.message.envelope import MessageClass
from tests.support.queue import Stage, play

HOUR = 3600.0


def test_transactional_goes_before_bulk_and_first_come_first_served_within_a_class(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.connections["mx.one.test"] = 1
        for number in range(3):
            await s.put("b@one.test", name=f"bulk{number}")
            await s.put("t@one.test", name=f"transactional{number}", message_class=MessageClass.TRANSACTIONAL)
        assert await s.take_all("one.test") == [
            "transactional0", "transactional1", "transactional2", "bulk0", "bulk1", "bulk2",
        ]  # fmt: skip

    play(tmp_path, story)


def test_a_closed_site_keeps_its_deliveries_and_opens_at_its_time(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        for _ in range(10):
            await s.put("a@one.test", "b@other.test")
        throttle = s.throttle("one.test")
        throttle.close(s.clock.time() + 60, "gone")
        for agent in list(s.courier.agents):
            if agent.queue.throttle is throttle:
                assert agent.take() is None
                agent.leave()
        assert all(agent.queue.throttle is not throttle for agent in s.courier.agents)
        assert any([await s.next(agent) for agent in s.courier.agents]), "the other site goes on"
        await s.put("c@one.test")
        await s.jump(59)
        assert all(agent.queue.throttle is not throttle for agent in s.courier.agents)
        await s.jump(2)
        assert any([await s.next(agent) for agent in s.courier.agents if agent.queue.throttle is throttle])
        assert s.manager.tally.deferred == 0, "closing costs no attempts"

    play(tmp_path, story)


def test_an_operator_opens_a_closed_site_at_once(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + HOUR, "gone")
        await s.put("a@one.test")
        assert s.courier.agents == []
        s.manager.sites.reopen(s.routes.plan("one.test"))
        await s.rest()
        assert s.agent("one.test").take() is not None

    play(tmp_path, story)


def test_what_expires_while_its_site_is_closed_is_given_up(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + 2 * HOUR, "gone")
        short = await s.put("a@one.test", expires_in=HOUR)
        await s.put("b@one.test", expires_in=3 * HOUR)
        await s.jump(HOUR + 1)
        await s.put("c@one.test", expires_in=3 * HOUR)
        for _ in range(2):
            await s.sweeper.sweep()
            await s.rest()
            assert s.sweeper.orphans == 0
            assert s.courier.given_up == [short.delivery]

    play(tmp_path, story)


def test_what_is_about_to_be_read_is_no_orphan(tmp_path: Path) -> None:
    """It has left the stock, and its reading has not begun: a sweep just then put all that was due off for a minute."""

    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + HOUR, "gone")
        for name in "abc":
            await s.put(f"{name}@one.test")
        s.manager.sites.reopen(s.routes.plan("one.test"))
        await s.sweeper.sweep()
        assert s.sweeper.orphans == 0
        await s.rest()
        assert len(s.spool.in_hand) == 3

    play(tmp_path, story)


def test_two_domains_of_one_site_share_its_connections(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.sites.update({"one.test": "mx.shared", "two.test": "mx.shared"})
        s.connections["mx.shared"] = 1
        await s.put("a@one.test", name="one")
        await s.put("a@two.test", name="two")
        assert await s.take_all("one.test") == ["one", "two"]

    play(tmp_path, story)


def test_a_window_that_is_full_is_used_again_when_an_agent_leaves(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.connections["mx.one.test"] = 2
        for _ in range(5):
            await s.put("a@one.test")
        assert len(s.courier.agents) == 2
        assert s.courier.agents[0].take() and s.courier.agents[1].take()
        assert len(s.courier.agents) == 2
        agent = s.courier.agents[0]
        assert agent.delivery is not None
        await s.settle(agent.delivery)
        agent.leave()
        assert len(s.courier.agents) == 2, "somebody else goes on with what is left"

    play(tmp_path, story)


def test_the_connections_of_the_node_go_round(tmp_path: Path) -> None:
    """B1: a site that found the budget used up is woken when a lease comes back, whoever held it."""

    async def story(s: Stage) -> None:
        s.budget.max_connections = 1
        await s.put("a@one.test")
        await s.put("a@two.test")
        assert [agent.queue.plan.site for agent in s.courier.agents] == ["mx.one.test"]
        assert await s.take_all("one.test") == ["m000001"]
        s.agent("one.test").leave()
        assert [agent.queue.plan.site for agent in s.courier.agents] == ["mx.two.test"]

    play(tmp_path, story)


def test_an_idle_connection_is_woken_before_another_is_made(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        await s.put("a@one.test")
        await s.take_all("one.test")
        agent = s.agent("one.test")
        agent.wait()
        assert agent.waits
        await s.put("b@one.test")
        assert not agent.waits and s.courier.agents == [agent]
        assert agent.take() is not None

    play(tmp_path, story)


def test_what_was_closed_before_a_restart_is_opened_before_anything_is_queued_for_it(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.throttle("one.test").close(s.clock.time() + HOUR, "gone")
        s.manager.sites.remember()
        s.manager.sites._throttles.clear()
        s.manager.sites.reopen(s.routes.plan("one.test"))
        await s.put("a@one.test")
        assert s.agent("one.test").take() is not None

    play(tmp_path, story)
