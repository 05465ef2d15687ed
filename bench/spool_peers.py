"""The programs that fill and drain a queue side by side: what bench.peers has, told to hold what it cannot deliver."""

import tempfile
from pathlib import Path

from bench.haraka import Haraka
from bench.opensmtpd import OpenSMTPD
from bench.peers import Peer, Postfix, Postrider, Unavailable
from engine.admin.client import ask
from engine.base.settings_file import read_settings


class OneWorker(Postrider):
    """The engine with one worker. flush: as an operator would."""

    name = "postrider-1"
    workers = 1
    settings: tuple[str, ...] = (
        "workers = 1",
        "[[route]] * to the sink: connections = 20, messages_per_connection = 1000",
    )

    def flush(self) -> None:
        """Try everything queued now."""
        list(ask(self.folder / "data", "retry", target="*"))


class TwoWorkers(OneWorker):
    name = "postrider-2"
    workers = 2
    settings = ("as postrider-1, workers = 2",)

    @classmethod
    def check(cls) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(f'[node]\nname = "bench.example"\ndata_dir = "data"\nworkers = {cls.workers}\n')
            file.flush()
            _, problems = read_settings(Path(file.name))
        if refused := [problem for problem in problems if "workers" in problem]:
            raise Unavailable(refused[0].rpartition(": ")[2])


FILLERS: tuple[type[Peer], ...] = (OneWorker, TwoWorkers, Postfix, OpenSMTPD, Haraka)


def available(kinds: tuple[type[Peer], ...]) -> list[type[Peer]]:
    """Those that can run here; why the others cannot is printed."""
    found = []
    for kind in kinds:
        try:
            kind.check()
        except Unavailable as reason:
            print(f"  SKIPPED   {kind.name}: {reason}", flush=True)
            continue
        found.append(kind)
        print(f"  peer      {kind.name}: {'; '.join(kind.settings)}", flush=True)
    return found
