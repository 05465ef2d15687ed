"""The keys of link tokens: of the settings, or a file that is made where there is none."""

from pathlib import Path

from engine.base.settings import Settings
from engine.base.settings_links import parse_keys
from engine.storage.secrets import read_keys

KEYS_NAME = "tracking.keys"  #: in data_dir


def link_keys(settings: Settings) -> dict[int, bytes]:
    """The keys by number, the newest first. Raises StorageError: the file of them cannot be used."""
    return parse_keys(settings.tracking.keys) or read_keys(Path(settings.node.data_dir) / KEYS_NAME)
