"""What stands in for objects of aiosmtpd's that would log, limit or cancel what we do ourselves (connection.py)."""

from typing import Any

from aiosmtpd.smtp import Session as AiosmtpdSession


class Deaf:
    """The reader of a connection that was turned away."""

    def feed_data(self, data: bytes) -> None:
        pass


class Spared:
    """Stands in for the task of a client that left while its message was being stored."""

    def cancel(self) -> bool:
        return False


class Session(AiosmtpdSession):
    """aiosmtpd's session, without the warning its `login_data` logs at every AUTH."""

    login_data = None


class Commands(dict[str, str]):
    """Method names by command, bound when asked for; an unknown command is a method, too, that counts and answers."""

    connection: object

    def get(self, command: str, default: Any = None) -> Any:
        return getattr(self.connection, dict.get(self, command, "unknown_command"))


class Unlimited(dict[str, int]):
    """aiosmtpd's limits of command lines, a class attribute that grows with every EHLO. The Reader has the limits."""

    def __missing__(self, command: str) -> int:
        return 1 << 30

    def __setitem__(self, command: str, limit: int) -> None:
        pass
