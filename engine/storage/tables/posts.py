"""Answers that wait to be posted to a URL."""

import asyncio
from dataclasses import dataclass

from engine.storage.tables.grouped import Grouped

_TABLE = """
create table if not exists posts (
    number integer primary key autoincrement, id text not null, url text not null, body blob not null,
    sender text not null, recipient text not null, attempts integer not null default 0, due_at real not null
);
create index if not exists posts_of_url on posts (url, due_at);
"""


@dataclass(frozen=True, slots=True)
class Post:
    """id: of the answer. body: JSON. sender, recipient: for events, as of the message that was answered."""

    id: str
    url: str
    body: bytes
    sender: str
    recipient: str
    attempts: int = 0
    number: int = 0


class Posts:
    """The table. Raises StorageError, or its futures do."""

    def __init__(self, db: Grouped) -> None:
        self._db = db
        db.change(_TABLE)

    def urls(self) -> list[str]:
        """Those that something waits for; at a start."""
        return [url for (url,) in self._db.read("select distinct url from posts")]

    def add(self, post: Post, at: float) -> asyncio.Future[None]:
        return self._db.write(
            (
                "insert into posts (id, url, body, sender, recipient, due_at) values (?, ?, ?, ?, ?, ?)",
                (post.id, post.url, post.body, post.sender, post.recipient, at),
            )
        )

    async def due(self, url: str, now: float, most: int) -> list[Post]:
        """What is to be tried now, the oldest first."""
        rows = await self._db.rows(
            "select id, url, body, sender, recipient, attempts, number from posts where url = ? and due_at <= ?"
            " order by number limit ?",
            url, now, most,
        )  # fmt: skip
        return [Post(*row) for row in rows]

    async def next_at(self, url: str) -> float | None:
        """When the next is due; None: nothing waits."""
        [(at,)] = await self._db.rows("select min(due_at) from posts where url = ?", url)
        return at  # type: ignore[no-any-return]  # SQLite's own types

    def put_off(self, post: Post, until: float) -> asyncio.Future[None]:
        """After an attempt that failed."""
        return self._db.write(
            ("update posts set attempts = attempts + 1, due_at = ? where number = ?", (until, post.number))
        )

    def remove(self, post: Post) -> asyncio.Future[None]:
        return self._db.write(("delete from posts where number = ?", (post.number,)))
