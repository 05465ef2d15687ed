"""Answers posted to a URL on a real HTTP server: what it gets, what it may say, restarts, and when it is given up."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from engine.base.settings import Keyword
from engine.feedback.poster import pause_s
from engine.protocol.smpp_tables import ESME_ROK
from tests.support.answers import OURS, PHONE, Stage, phone, run, sent, settings, until
from tests.support.clock import breathe

#: Where the clock jumps while a request may be on its way.
LONG_S = 1e9
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Application:
    """An HTTP server that notes what it gets. says: the statuses it answers with, the last one again and again."""

    def __init__(self, *says: int, port: int = 0) -> None:
        self.port = port
        self.says = list(says)
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.handler: Handler | None = None

    async def __aenter__(self) -> "Application":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/sms"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.json()))
        if self.handler is not None:
            return await self.handler(request)
        status = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        return web.Response(status=status, headers={"Location": self.url} if status in (302, 307) else {})


def with_url(stage: Stage, url: str, **more: Any) -> None:
    stage.settings = settings(keywords=(Keyword(word="VOTE", url=url, allow_private=True),), **more)
    stage.answers.reload(stage.settings)


async def waiting(stage: Stage) -> int:
    [(count,)] = await stage.db.rows("select count(*) from posts")
    return int(count)


async def posted(stage: Stage, jump: float = 0) -> None:
    """Until nothing waits, in steps of so many seconds."""

    async def done() -> bool:
        await stage.loop.jump(jump)
        return not await waiting(stage)

    await until(done)


async def tried(stage: Stage, attempts: int) -> None:
    async def done() -> bool:
        return [(attempts,)] == await stage.db.rows("select max(attempts) from posts")

    await until(done)
    await breathe()


def test_what_a_url_is_sent(tmp_path: Path) -> None:
    stage = Stage(tmp_path, settings())
    stage.last[PHONE] = sent("m1", "")

    async def story() -> None:
        async with Application(204) as application:
            with_url(stage, application.url)
            assert await stage.arrive(phone(b"vote 5")) == ESME_ROK
            await posted(stage)
            [(headers, body)] = application.requests
            assert headers["Content-Type"] == "application/json"
            assert headers["Idempotency-Key"] == body["id"]
            assert body == {
                "id": body["id"], "from": PHONE, "to": OURS, "text": "vote 5", "octets": None, "data_coding": 0,
                "keyword": "VOTE", "message": "m1", "carrier": "one", "received_at": stage.clock.now,
            }  # fmt: skip
            [event] = stage.told()
            assert (event.type, event.destination) == ("answered", "url:127.0.0.1")

    run(stage, story)


@pytest.mark.parametrize("status", [302, 307, 400, 404, 429, 500])
def test_anything_but_2xx_is_tried_again_and_no_redirect_is_followed(tmp_path: Path, status: int) -> None:
    stage = Stage(tmp_path, settings())

    async def story() -> None:
        async with Application(status, 200) as application:
            with_url(stage, application.url, post_timeout=LONG_S)
            await stage.arrive(phone(b"vote 5"))
            await tried(stage, 1)
            assert len(application.requests) == 1
            await posted(stage, pause_s(1))
            assert len(application.requests) == 2
            assert len({body["id"] for _, body in application.requests}) == 1

    run(stage, story)


def test_one_that_is_refused_holds_no_other_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path, settings())

    async def story() -> None:
        async with Application(422, 200) as application:
            with_url(stage, application.url)
            await stage.arrive(phone(b"vote bad"))
            await tried(stage, 1)
            await stage.arrive(phone(b"vote good"))

            async def done() -> bool:
                return len(application.requests) == 2 and await waiting(stage) == 1

            await until(done)

    run(stage, story)


def test_a_private_url_is_refused_where_it_is_not_allowed(tmp_path: Path) -> None:
    stage = Stage(tmp_path, settings())

    async def story() -> None:
        async with Application(200) as application:
            stage.settings = settings(keywords=(Keyword(word="VOTE", url=application.url),), post_attempts=1)
            stage.answers.reload(stage.settings)
            await stage.arrive(phone(b"vote 5"))
            await posted(stage)
            [event] = stage.told("answer-failed")
            assert event.reply == "its address is loopback, and allow_private is off"
            assert application.requests == []

    run(stage, story)


def test_a_dead_url_rests_and_is_given_up_with_an_event(tmp_path: Path) -> None:
    stage = Stage(tmp_path, settings())

    async def story() -> None:
        with_url(stage, "http://127.0.0.1:1/?secret=x", post_attempts=3, post_timeout=LONG_S)
        await stage.arrive(phone(b"vote 5"))
        await tried(stage, 1)
        await posted(stage, pause_s(1))
        [event] = stage.told("answer-failed")
        assert (event.attempt, event.recipient, event.destination) == (3, PHONE, "url:127.0.0.1")
        assert "secret" not in repr(event)

    run(stage, story)


def test_it_is_posted_after_a_restart(tmp_path: Path) -> None:
    stage = Stage(tmp_path, settings())
    before = Application(503)

    async def first() -> None:
        async with before:
            with_url(stage, before.url, post_timeout=LONG_S)
            await stage.arrive(phone(b"vote 5"))
            await tried(stage, 1)

    async def second() -> None:
        async with Application(200, port=before.port) as after:
            await posted(stage, pause_s(1))
            [(_, body)] = after.requests
            assert body["text"] == "vote 5"

    run(stage, first, second)


def test_a_url_that_never_answers_has_its_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path, settings())

    async def story() -> None:
        async with Application(200) as application:
            held = asyncio.Event()

            async def hold(_: web.Request) -> web.StreamResponse:
                await held.wait()
                return web.Response()

            application.handler = hold
            with_url(stage, application.url)
            await stage.arrive(phone(b"vote 5"))

            async def asked() -> bool:
                return bool(application.requests)

            await until(asked)
            await stage.loop.jump(stage.settings.sms.post_timeout + 1)
            await tried(stage, 1)
            held.set()

    run(stage, story)


def test_an_answer_without_an_end_is_not_read(tmp_path: Path) -> None:
    stage = Stage(tmp_path, settings())

    async def story() -> None:
        async with Application(200) as application:

            async def endless(request: web.Request) -> web.StreamResponse:
                response = web.StreamResponse()
                await response.prepare(request)
                try:
                    while True:
                        await response.write(b"x" * 65536)
                except ConnectionError:
                    return response

            application.handler = endless
            with_url(stage, application.url)
            await stage.arrive(phone(b"vote 5"))
            await posted(stage)

    run(stage, story)


def test_binary_is_sent_as_octets(tmp_path: Path) -> None:
    stage = Stage(tmp_path, settings())

    async def story() -> None:
        async with Application(200) as application:
            stage.settings = settings(keywords=(Keyword(word="*", url=application.url, allow_private=True),))
            stage.answers.reload(stage.settings)
            await stage.arrive(phone(b"\x01\xff", data_coding=4))
            await posted(stage)
            [(_, body)] = application.requests
            assert (body["text"], body["octets"], body["data_coding"]) == (None, "01ff", 4)
            assert json.dumps(body)

    run(stage, story)


def test_the_pauses_grow_and_have_an_end() -> None:
    assert [pause_s(n) for n in (1, 2, 3, 9, 10, 1000)] == [10, 20, 40, 2560, 3600, 3600]
