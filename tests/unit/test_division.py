"""What workers have each an even part of: together no more than the node may."""

import pytest

from engine.base.settings import Node, Resolver, Settings, Signing, SpoolSettings
from engine.base.units import Size
from engine.daemon.division import part_of


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_parts_add_up_to_the_whole(workers: int) -> None:
    whole = Settings(
        node=Node(workers=workers),
        signing=Signing(threads=6),
        spool=SpoolSettings(hot_bytes=Size(1200), move_rate=Size(600), memory_guard=0.75),
        resolver=Resolver(max_queries=60),
    )
    part = part_of(whole)
    assert part.signing.threads * workers == 6
    assert (part.spool.hot_bytes * workers, part.spool.move_rate * workers) == (1200, 600)
    assert part.spool.memory_guard * workers == pytest.approx(0.75)
    assert part.resolver.max_queries * workers == 60
    assert part.intake == whole.intake, "clients are counted, not divided"


def test_what_cannot_be_divided() -> None:
    """No limit stays none; and nobody has nothing."""
    whole = Settings(
        node=Node(workers=4), spool=SpoolSettings(move_rate=Size(0), memory_guard=0.0), resolver=Resolver(max_queries=1)
    )
    part = part_of(whole)
    assert (part.spool.move_rate, part.spool.memory_guard, part.resolver.max_queries) == (0, 0.0, 1)
