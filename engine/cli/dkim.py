"""`postrider dkim`: make a signing key, print its DNS record, see whether receivers will accept it.

$ postrider dkim generate --domain example.org --selector s1 --out keys/s1.pem
$ postrider dkim dns -c postrider.toml
$ postrider dkim check -c postrider.toml
$ postrider dkim check --file received.eml
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.base.errors import ConfigError, EngineError
from engine.base.settings import Settings
from engine.cli.common import DEFAULT_CONFIG, Commands, add_config, add_json, print_json, print_rows, settings_of

if TYPE_CHECKING:
    from engine.message.dkim_keys import PrivateKey, SigningKey


def register(commands: Commands) -> None:
    """Add the commands to the program."""
    group = commands.add_parser("dkim", help="keys that sign mail: make, publish, check").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    generate = group.add_parser("generate", help="make a private key and print the DNS record that belongs to it")
    _add_name(generate, required=True)
    generate.add_argument("--type", choices=("rsa", "ed25519"), default="rsa", help="rsa is what every receiver knows")
    generate.add_argument("--bits", type=int, default=2048, help="of an RSA key; 2048 is right")
    generate.add_argument("--out", type=Path, required=True, metavar="FILE", help="private key; must not exist yet")
    add_json(generate)
    generate.set_defaults(run=run_generate)

    show = group.add_parser("dns", help="print the TXT records to publish")
    check = group.add_parser("check", help="compare DNS with the keys, or verify the signatures of a message")
    for parser in (show, check):
        add_config(parser)
        parser.add_argument("--key", type=Path, metavar="FILE", help="this key instead of those of the settings")
        _add_name(parser, required=False)
        add_json(parser)
    check.add_argument("--record", metavar="TEXT", help="take this for the TXT record instead of asking DNS")
    check.add_argument("--file", metavar="MESSAGE", help="verify the signatures of this message (- for standard input)")
    show.set_defaults(run=run_dns)
    check.set_defaults(run=run_check)


def _add_name(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--domain", required=required, help="the domain that signs (d=)")
    parser.add_argument("--selector", required=required, help="the key is published as SELECTOR._domainkey.DOMAIN")


def run_generate(args: argparse.Namespace) -> int:
    """Exit status 0: the key is in the file. Raises EngineError, and then there is no file."""
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    from engine.message.dkim_keys import RSA_LARGEST, RSA_REFUSED_BELOW, RSA_WARNED_BELOW, SigningKey
    from engine.message.dkim_record import zone_line

    private: PrivateKey
    if args.type == "ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
    elif not RSA_REFUSED_BELOW <= args.bits <= RSA_LARGEST:
        raise EngineError(
            f"--bits {args.bits}: RSA keys of {RSA_REFUSED_BELOW} to {RSA_LARGEST} bits are used; take 2048"
        )
    else:
        private = rsa.generate_private_key(65537, args.bits)
    try:
        key = SigningKey(args.domain, args.selector, private)
    except ValueError as error:
        raise EngineError(str(error)) from None
    _write_key(args.out, private)
    if key.slow and key.bits < RSA_WARNED_BELOW:
        print(f"warning: some receivers ignore RSA keys of {key.bits} bits; 2048 is right", file=sys.stderr)
    if args.json:
        print_json([{**_record_row(key), "key": str(args.out)}])
        return 0
    print(f"{args.out}: {key.algorithm}, {key.bits} bits. Publish:\n\n{zone_line(key)}\n\nthen add to the settings:\n")
    print(f'[[dkim]]\ndomain = "{key.domain}"\nselector = "{key.selector}"\nkey = "{args.out.absolute()}"')
    return 0


def _write_key(path: Path, private: "PrivateKey") -> None:
    """A new file that only its owner can read. Raises EngineError: it exists, or cannot be written."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise EngineError(f"{path} exists and is not overwritten") from None
    except OSError as error:
        raise EngineError(f"{path} cannot be made: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise EngineError(f"{path} cannot be written: {error.strerror}") from error


def run_dns(args: argparse.Namespace) -> int:
    """Exit status 0."""
    from engine.message.dkim_record import zone_line

    keys = _keys(args)
    if args.json:
        print_json(_record_row(key) for key in keys)
    else:
        print("\n".join(zone_line(key) for key in keys))
    return 0


def _record_row(key: "SigningKey") -> dict[str, Any]:
    from engine.message.dkim_record import txt_strings

    return {"name": key.dns_name, "type": "TXT", "value": key.record, "strings": txt_strings(key.record)}


def _keys(args: argparse.Namespace) -> "Sequence[SigningKey]":
    """The keys asked for: of --key, or of the settings, maybe only one domain or selector of them."""
    from engine.delivery.keyring import load_keys, read_key_file
    from engine.message.dkim_keys import SigningKey, parse_private_key

    if args.key is not None:
        if not args.domain or not args.selector:
            raise EngineError("--key needs --domain and --selector")
        try:
            pem = read_key_file(args.key)
            return [SigningKey(args.domain, args.selector, parse_private_key(pem))]
        except ValueError as error:
            raise EngineError(str(error)) from None
    try:
        ring, _ = load_keys(settings_of(args))
    except ConfigError as error:
        raise ConfigError([_in_file(args.config.name, problem) for problem in error.problems]) from None
    keys = [key for key in ring if args.domain in (None, key.domain) and args.selector in (None, key.selector)]
    if not keys:
        raise EngineError(f"{args.config} has no such [[dkim]] key")
    return keys


def _in_file(name: str, problem: str) -> str:
    return problem if problem.startswith(f"{name}:") else f"{name}: {problem}"


def run_check(args: argparse.Namespace) -> int:
    """Exit status 0: receivers will accept it all; 1: something is wrong."""
    from engine.message.dkim_record import judge

    if args.file is not None:
        return _check_message(args)
    keys = _keys(args)
    if args.record is not None and len(keys) > 1:
        raise EngineError("--record is for one key; choose it by --domain and --selector")
    rows, trouble = [], False
    for key in keys:
        try:
            good, text = judge(key, _txt(args, key.dns_name))
        except EngineError as error:
            good, text = False, str(error)
        trouble |= not good
        rows.append({"name": key.dns_name, "algorithm": key.algorithm, "good": good, "result": text})
    print_rows(rows, args.json, ("name", "algorithm", "result"))
    return 1 if trouble else 0


def _txt(args: argparse.Namespace, name: str) -> list[str]:
    """The TXT records of a name, or the one of --record. Raises EngineError: DNS does not answer."""
    from engine.base.clock import SystemClock
    from engine.base.metrics import Metrics
    from engine.net.dns_query import Finding
    from engine.net.resolver import Answer, Resolver

    if args.record is not None:
        return [args.record]
    usual = Path(os.environ.get("POSTRIDER_CONFIG", DEFAULT_CONFIG))
    settings = Settings() if args.config == usual and not usual.exists() else settings_of(args)

    async def ask() -> Answer:
        resolver = Resolver(settings.resolver, Metrics(), SystemClock())
        try:
            return await resolver.lookup(name, "TXT")
        finally:
            await resolver.close()

    answer = asyncio.run(ask())
    if answer.finding is Finding.TROUBLE:
        raise EngineError(f"DNS does not say: {answer.detail}")
    return [record.value for record in answer.records]


def _check_message(args: argparse.Namespace) -> int:
    """Verify every DKIM-Signature of --file, with dkimpy."""
    import dkim  # type: ignore[import-untyped]  # dkimpy has no annotations

    try:
        content = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    except OSError as error:
        raise EngineError(f"{args.file} cannot be read: {error.strerror}") from error
    if b"\r\n" not in content:
        content = content.replace(b"\n", b"\r\n")
    try:
        verifier = dkim.DKIM(content)
    except dkim.DKIMException as error:
        raise EngineError(f"{args.file} is not a message: {error}") from None
    fields = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"]
    if not fields:
        raise EngineError(f"{args.file} has no DKIM-Signature")

    def dnsfunc(name: bytes, timeout: int = 5) -> bytes | None:
        records = _txt(args, name.decode("ascii").rstrip("."))
        return records[0].encode() if records else None

    rows, trouble = [], False
    for number, field in enumerate(fields):
        row: dict[str, Any] = {"domain": None, "selector": None, "algorithm": None}
        try:
            tags = dkim.parse_tag_value(field)
            row = {key: tags.get(tag, b"").decode() for key, tag in zip(row, (b"d", b"s", b"a"), strict=True)}
            good, text = verifier.verify(number, dnsfunc=dnsfunc), "the signature does not belong to the header"
        except Exception as error:  # dkimpy raises more than its own exceptions at what strangers write
            good, text = False, str(error) or type(error).__name__
        trouble |= not good
        rows.append({**row, "good": good, "result": "accepted" if good else text})
    print_rows(rows, args.json, ("domain", "selector", "algorithm", "result"))
    return 1 if trouble else 0
