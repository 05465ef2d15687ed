"""What the workers of a node have in common, as one has it: its part of limits, and what it tells the others."""

from dataclasses import dataclass

from engine.base.clock import Clock
from engine.base.settings import Settings
from engine.intake.clients import Clients
from engine.intake.guesses import Guesses
from engine.queue.budget import LocalBudget
from engine.queue.sites import Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Commons:
    """tell_site: tells the others what a site said of us; None: there are none."""

    budget: LocalBudget
    clients: Clients
    guesses: Guesses
    tell_site: Tell | None = None


def alone(settings: Settings, clock: Clock) -> Commons:
    """Of the only worker."""
    return Commons(budget=LocalBudget(settings.delivery.max_connections), clients=Clients(), guesses=Guesses(clock))
