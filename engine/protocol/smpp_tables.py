"""Numbers of SMPP: commands, statuses and what they mean, tags of TLVs.

smpplib's tables, completed with SMPP 5.0 (4.7.6, 4.8) where they end at 3.4. Only what the engine itself speaks
of has a name of its own here; the rest is looked up.
"""

from collections.abc import Mapping

from smpplib import command_codes, consts  # type: ignore[import-untyped]  # it has no annotations

#: Set in the command_id of every response.
RESPONSE = 0x80000000

VERSION_33: int = consts.SMPP_VERSION_33
VERSION_34: int = consts.SMPP_VERSION_34
VERSION_50 = 0x50

#: "submit_sm" -> 4.
COMMANDS: Mapping[str, int] = dict(command_codes.commands)

_STATUSES_50 = {
    "ESME_RSERTYPUNAUTH": (0x100, "Not authorised to use this service_type"),
    "ESME_RPROHIBITED": (0x101, "Operation prohibited for this ESME"),
    "ESME_RSERTYPUNAVAIL": (0x102, "This service_type is unavailable"),
    "ESME_RSERTYPDENIED": (0x103, "This service_type is denied"),
    "ESME_RINVDCS": (0x104, "Invalid data_coding"),
    "ESME_RINVSRCADDRSUBUNIT": (0x105, "Invalid source address subunit"),
    "ESME_RINVDSTADDRSUBUNIT": (0x106, "Invalid destination address subunit"),
    "ESME_RINVBCASTFREQINT": (0x107, "Invalid broadcast frequency interval"),
    "ESME_RINVBCASTALIAS_NAME": (0x108, "Invalid broadcast alias name"),
    "ESME_RINVBCASTAREAFMT": (0x109, "Invalid broadcast area format"),
    "ESME_RINVNUMBCAST_AREAS": (0x10A, "Invalid number of broadcast areas"),
    "ESME_RINVBCASTCNTTYPE": (0x10B, "Invalid broadcast content type"),
    "ESME_RINVBCASTMSGCLASS": (0x10C, "Invalid broadcast message class"),
    "ESME_RBCASTFAIL": (0x10D, "broadcast_sm failed"),
    "ESME_RBCASTQUERYFAIL": (0x10E, "query_broadcast_sm failed"),
    "ESME_RBCASTCANCELFAIL": (0x10F, "cancel_broadcast_sm failed"),
    "ESME_RINVBCAST_REP": (0x110, "Invalid number of repeated broadcasts"),
    "ESME_RINVBCASTSRVGRP": (0x111, "Invalid broadcast service group"),
    "ESME_RINVBCASTCHANIND": (0x112, "Invalid broadcast channel indicator"),
}
#: "ESME_RTHROTTLED" -> 0x58.
STATUSES: Mapping[str, int] = {
    name.removeprefix("SMPP_"): number for name, number in vars(consts).items() if name.startswith("SMPP_ESME_")
} | {name: number for name, (number, _) in _STATUSES_50.items()}
_NAMES = {number: name for name, number in STATUSES.items()}
_MEANINGS: Mapping[int, str] = (
    dict(consts.DESCRIPTIONS)
    | dict(_STATUSES_50.values())
    | {consts.SMPP_ESME_RINVREGDLVFLG: "Invalid Registered Delivery Flag"}  # left blank there
)

ESME_ROK = STATUSES["ESME_ROK"]
ESME_RINVMSGLEN = STATUSES["ESME_RINVMSGLEN"]
ESME_RINVCMDLEN = STATUSES["ESME_RINVCMDLEN"]
ESME_RINVCMDID = STATUSES["ESME_RINVCMDID"]
ESME_RINVBNDSTS = STATUSES["ESME_RINVBNDSTS"]
ESME_RALYBND = STATUSES["ESME_RALYBND"]
ESME_RSYSERR = STATUSES["ESME_RSYSERR"]
ESME_RMSGQFUL = STATUSES["ESME_RMSGQFUL"]
ESME_RTHROTTLED = STATUSES["ESME_RTHROTTLED"]
ESME_RINVDESTFLAG = STATUSES["ESME_RINVDESTFLAG"]
ESME_RX_T_APPN = STATUSES["ESME_RX_T_APPN"]

#: "message_payload" -> 0x0424.
TAGS: Mapping[str, int] = consts.OPTIONAL_PARAMS | {
    "congestion_state": 0x0428,
    "broadcast_channel_indicator": 0x0600,
    "broadcast_content_type": 0x0601,
    "broadcast_content_type_info": 0x0602,
    "broadcast_message_class": 0x0603,
    "broadcast_rep_num": 0x0604,
    "broadcast_frequency_interval": 0x0605,
    "broadcast_area_identifier": 0x0606,
    "broadcast_error_status": 0x0607,
    "broadcast_area_success": 0x0608,
    "broadcast_end_time": 0x0609,
    "broadcast_service_group": 0x060A,
    "billing_identification": 0x060B,
    "source_network_id": 0x060D,
    "dest_network_id": 0x060E,
    "source_node_id": 0x060F,
    "dest_node_id": 0x0610,
    "dest_addr_np_resolution": 0x0611,
    "dest_addr_np_information": 0x0612,
    "dest_addr_np_country": 0x0613,
}


def status_name(status: int) -> str:
    """ "ESME_RTHROTTLED", or the number as "0x00000463" where nobody but the carrier knows it."""
    return _NAMES.get(status, f"0x{status:08X}")


def status_text(status: int) -> str:
    """What a status means, in a few English words."""
    if 0x400 <= status <= 0x4FF:  # 3.4 5.1.3
        return "Error of the carrier's own"
    return _MEANINGS.get(status, "Reserved status")
