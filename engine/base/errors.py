"""The one exception tree. What a delivery did is a value (`message.outcome.Outcome`), not an exception."""


class EngineError(Exception):
    """The root: whatever the engine raises on purpose."""


class ConfigError(EngineError):
    """Settings that cannot be used. `problems`: one readable line each, all of one run."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UsageError(ConfigError):
    """What a command was told on its line cannot be used."""


class ProtocolError(EngineError):
    """A peer broke its protocol; the connection is not used again (D2)."""


class NetworkError(EngineError):
    """A connection failed, was lost, or took too long."""


class StorageError(EngineError):
    """The disk did not take or did not give what it should."""
