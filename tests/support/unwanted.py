"""Who must not be sent SMS, as admission and agents ask."""


class Unwanted(set[tuple[str, str]]):
    """(sender, number) of each. fault: the list does not answer."""

    fault: Exception | None = None

    def __call__(self, sender: str, number: str, tenant: str) -> bool:
        if self.fault is not None:
            raise self.fault
        return (sender, number) in self
