"""Our test MX and load generator against Postfix's own: each believes the other."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port

LIMIT_S = 60


def _find(name: str) -> str:
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert path is not None, f"{name} is missing: apt-get install postfix"
    return path


@contextmanager
def started(*command: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_smtp_source_fills_our_sink(tmp_path: Path) -> None:
    """All messages with their own Message-ID, over as many connections as it says."""
    command = (sys.executable, "-m", "engine.cli.main", "sink", "--listen", "127.0.0.1:0", "--json")
    with started(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sink:
        assert sink.stderr is not None
        address = sink.stderr.readline().split()[-1]
        source = (_find("smtp-source"), "-d", "-l", "4096", "-m", "2000", "-s", "10")
        subprocess.run((*source, "-f", "a@load.example", "-t", "b@x.example", address), check=True, timeout=LIMIT_S)
        sink.send_signal(signal.SIGTERM)
        counts = json.loads(sink.communicate(timeout=LIMIT_S)[0])
    assert (counts["messages"], counts["unique"], counts["duplicates"]) == (2000, 2000, 0)
    assert (counts["connections"], counts["protocol_errors"]) == (10, 0)


def test_our_load_fills_smtp_sink(tmp_path: Path) -> None:
    port = free_port()
    user = ("-u", "nobody") if os.getuid() == 0 else ()
    command = (_find("smtp-sink"), *user, "-c", f"127.0.0.1:{port}", "100")
    with (tmp_path / "counter").open("w+") as counter, started(*command, stdout=counter) as sink:
        load = (sys.executable, "-m", "engine.cli.main", "load", "--to", f"127.0.0.1:{port}", "-n", "2000", "--json")
        # Until smtp-sink listens the load generator's connections are refused: it tries again.
        done = subprocess.run((*load, "--patience", "20"), capture_output=True, text=True, timeout=LIMIT_S, check=True)
        sink.terminate()
        sink.wait(LIMIT_S)
        counter.seek(0)
        assert counter.read().split()[-1] == "mesg=2000"
    report = json.loads(done.stdout)
    assert (report["accepted"], report["refused"], report["unanswered"]) == (2000, 0, 0)
