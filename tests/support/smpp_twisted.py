"""An SMSC, or a client, made of smpp.twisted3, which takes nothing that the specification does not know.

    python smpp_twisted.py OPTIONS      as JSON. Of the SMSC: port. Of the client: role = "esme", port, system_id,
                                        password, submits ([number, text] each), receive (so many deliver_sm)

JSON lines on standard output. The SMSC tells {"listening": port}, {"submit": ...}, {"acknowledged": status}; the client
{"response": {"status", "message_id"}}, {"received": {"source", "destination", "receipt", "text", "id", "state"}}. Both
{"error": ...} for what the library logs as an error.
"""

import json
import logging
import sys
from typing import Any

from smpp.pdu.operations import DeliverSM, SubmitSM
from smpp.pdu.pdu_types import (
    AddrNpi,
    AddrTon,
    CommandStatus,
    EsmClass,
    EsmClassMode,
    EsmClassType,
    RegisteredDelivery,
    RegisteredDeliveryReceipt,
)
from smpp.twisted.client import SMPPClientTransceiver
from smpp.twisted.config import SMPPClientConfig, SMPPServerConfig
from smpp.twisted.protocol import DataHandlerResponse
from smpp.twisted.server import IAuthenticatedSMPP, SMPPServerFactory
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet import defer, reactor
from zope.interface import implementer

OPTIONS = json.loads(sys.argv[1])
STDOUT, sys.stdout = sys.stdout, sys.stderr  # smpp.pdu prints dates


def say(**line: Any) -> None:
    print(json.dumps(line), file=STDOUT, flush=True)


class Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(error=record.getMessage())


@implementer(IRealm)
class Realm:
    def requestAvatar(self, avatar: Any, mind: Any, *interfaces: Any) -> Any:
        return IAuthenticatedSMPP, object(), lambda: None


@implementer(ICredentialsChecker)
class Passwords:
    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> str:
        if (credentials.username, credentials.password) != ("us", "secret"):
            raise UnauthorizedLogin
        return "us"


count = 0


def submitted(system_id: str, smpp: Any, pdu: Any) -> Any:
    global count
    count += 1
    fields = pdu.params
    say(
        submit={
            "source": fields["source_addr"].decode(), "destination": fields["destination_addr"].decode(),
            "text": fields["short_message"].decode("latin-1"),
        }
    )  # fmt: skip
    reactor.callLater(0, receipt, smpp, fields, b"tw-%d" % count)
    return DataHandlerResponse(CommandStatus.ESME_ROK, message_id=b"tw-%d" % count)


def receipt(smpp: Any, fields: Any, id: bytes) -> None:
    text = b"id:%s sub:001 dlvrd:001 submit date:2611270315 done date:2611270315 stat:DELIVRD err:000 text:" % id
    sent = smpp.sendDataRequest(
        DeliverSM(
            source_addr_ton=fields["dest_addr_ton"], source_addr_npi=fields["dest_addr_npi"],
            source_addr=fields["destination_addr"], dest_addr_ton=fields["source_addr_ton"],
            dest_addr_npi=fields["source_addr_npi"], destination_addr=fields["source_addr"],
            esm_class=EsmClass(EsmClassMode.DEFAULT, EsmClassType.SMSC_DELIVERY_RECEIPT), short_message=text,
        )
    )  # fmt: skip
    sent.addCallback(lambda result: say(acknowledged=result.response.status.name))
    sent.addErrback(lambda failure: say(error=str(failure.value)))


def serve() -> None:
    config = SMPPServerConfig(systems={"us": {"max_bindings": 2}}, msgHandler=submitted)
    listening = reactor.listenTCP(
        OPTIONS["port"], SMPPServerFactory(config, Portal(Realm(), [Passwords()])), interface="127.0.0.1"
    )
    say(listening=listening.getHost().port)


received: "defer.Deferred[None]" = defer.Deferred()
left = OPTIONS.get("receive", 0)


def came(smpp: Any, pdu: Any) -> Any:
    global left
    fields = pdu.params
    id, state = fields.get("receipted_message_id"), fields.get("message_state")
    say(
        received={
            "source": fields["source_addr"].decode(), "destination": fields["destination_addr"].decode(),
            "receipt": fields["esm_class"].type.name == "SMSC_DELIVERY_RECEIPT",
            "text": fields["short_message"].decode(), "id": id and id.decode(), "state": state and state.name,
        }
    )  # fmt: skip
    left -= 1
    if not left:
        reactor.callLater(0, received.callback, None)
    return CommandStatus.ESME_ROK


@defer.inlineCallbacks
def submit() -> Any:
    config = SMPPClientConfig(
        host="127.0.0.1", port=OPTIONS["port"], username=OPTIONS["system_id"], password=OPTIONS["password"]
    )
    try:
        smpp = yield SMPPClientTransceiver(config, came).connectAndBind()
        for number, text in OPTIONS["submits"]:
            result = yield smpp.sendDataRequest(
                SubmitSM(
                    source_addr_ton=AddrTon.ALPHANUMERIC, source_addr_npi=AddrNpi.UNKNOWN,
                    source_addr=OPTIONS["system_id"], dest_addr_ton=AddrTon.INTERNATIONAL, dest_addr_npi=AddrNpi.ISDN,
                    destination_addr=number, short_message=text.encode(),
                    registered_delivery=RegisteredDelivery(RegisteredDeliveryReceipt.SMSC_DELIVERY_RECEIPT_REQUESTED),
                )
            )  # fmt: skip
            response = result.response
            say(response={"status": response.status.name, "message_id": response.params["message_id"].decode()})
        if left > 0:
            yield received
        yield smpp.unbindAndDisconnect()
    except Exception as error:
        say(error=repr(error))
    reactor.stop()


logging.getLogger().addHandler(Told(logging.ERROR))
reactor.callWhenRunning(submit if OPTIONS.get("role") == "esme" else serve)
reactor.run()
