"""`postrider sms`: what the engine makes of texts and receipts, and who wants no messages."""

from engine.cli import sms_binds, sms_optout, sms_parts, sms_receipt
from engine.cli.common import Commands


def register(commands: Commands) -> None:
    """Add the commands to the program."""
    group = commands.add_parser("sms", help="texts, receipts, opt-outs, binds")
    subcommands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    sms_parts.add(subcommands)
    sms_receipt.add(subcommands)
    sms_optout.add(subcommands)
    sms_binds.add(subcommands)
