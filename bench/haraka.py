"""Haraka from npm, in the benchmarks' cache, as a peer: with and without signing."""

import json
import subprocess

from bench.common import CACHE, find
from bench.peers import DOMAIN, SELECTOR, Peer, Unavailable, key_file

_HARAKA_PLUGIN = """\
exports.register = function () {
  this.register_hook('rcpt', 'take_all');
  this.register_hook('get_mx', 'to_sink');
};
exports.take_all = function (next, connection) { connection.relaying = true; next(OK); };
exports.to_sink = function (next) { next(OK, {priority: 0, exchange: '127.0.0.1', port: %d}); };
"""


class Haraka(Peer):
    """A process for each core, a fixed next hop."""

    name = "haraka"
    settings: tuple[str, ...] = ("nodes = cores", "concurrency_max = 50", "log level notice")

    _PACKAGE = "3.3.4"
    _FOLDER = CACHE / "haraka"

    @classmethod
    def check(cls) -> None:
        if (cls._FOLDER / "node_modules/Haraka/package.json").exists():
            return
        npm = find("npm")
        if npm is None or find("node") is None:
            raise Unavailable("npm is not installed (apt-get install npm)")
        cls._FOLDER.mkdir(parents=True, exist_ok=True)
        package = {
            "name": "haraka-bench",
            "version": "1.0.0",
            "private": True,
            "dependencies": {"Haraka": cls._PACKAGE},
            # Newer releases of these two want a newer Node than Debian has.
            "overrides": {"encoding-japanese": "2.2.0", "libqp": "2.1.2"},
        }
        (cls._FOLDER / "package.json").write_text(json.dumps(package))
        try:
            done = subprocess.run(
                [npm, "install", "--no-audit", "--no-fund"], cwd=cls._FOLDER, capture_output=True, text=True,
                timeout=300, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Unavailable("npm install took longer than 300 s") from error
        if done.returncode:
            raise Unavailable(f"npm install failed: {done.stderr.strip().splitlines()[-1:]}")

    def configure(self) -> None:
        config, plugins = self.folder / "config", self.folder / "plugins"
        for path in (config, plugins, self.folder / "queue"):
            path.mkdir()
        files = {
            config / "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes=cpus\n",
            config / "plugins": ("dkim\n" if self.signs else "") + "bench_relay\n",
            config / "me": "bench.example\n",
            config / "host_list": "",
            config / "internalcmd_key": "bench\n",
            config / "log.ini": "[main]\nlevel=notice\ntimestamps=false\nformat=default\n",
            config / "outbound.ini": "enable_tls=false\nconcurrency_max=50\n",
            config / "tls.ini": "[main]\n[outbound]\n",
            config / "connection.ini": "[main]\n[haproxy]\n[max]\nline_length=512\n[uuid]\n[message]\n",
            plugins / "bench_relay.js": _HARAKA_PLUGIN % self.sink_port,
        }
        for path, text in files.items():
            path.write_text(text)

    def flush(self) -> None:
        """Try everything queued now."""
        program = self._FOLDER / "node_modules/.bin/haraka"
        self.group.start([str(program), "-c", str(self.folder), "--qunstick"], self.log, cwd=self.folder)

    def run(self) -> None:
        program = self._FOLDER / "node_modules/.bin/haraka"
        environment = {"NODE_ENV": "production", "UV_THREADPOOL_SIZE": "16"}
        self.group.start([str(program), "-c", str(self.folder)], self.log, env=environment, cwd=self.folder)


class HarakaSigned(Haraka):
    """With its signing plugin."""

    name = "haraka-signed"
    signs = True
    settings = (*Haraka.settings, "plugin dkim, rsa-sha256 2048")

    def configure(self) -> None:
        super().configure()
        config, key = self.folder / "config", key_file().read_text()
        keys = config / "dkim" / DOMAIN
        keys.mkdir(parents=True)
        (config / "dkim.ini").write_text(
            f"[verify]\nenabled=false\n[sign]\nenabled=true\nselector={SELECTOR}\ndomain={DOMAIN}\n"
            "headers=From,Sender,Reply-To,Subject,Date,Message-ID,To,Cc,MIME-Version\n"
        )
        (config / "dkim.private.key").write_text(key)
        (keys / "private").write_text(key)
        (keys / "selector").write_text(f"{SELECTOR}\n")
