"""Everything of SMS in a worker, built once: carriers, applications, and what comes back from phones.

One worker of a node does it, the first: it has the binds of all carriers and applications, and so their windows.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.delivery.agent import Kit
from engine.delivery.carriers import Carriers
from engine.delivery.failover import Failover
from engine.delivery.sms_agent import SmsKit
from engine.feedback.answers import Answers
from engine.intake.smpp_binds import Binds
from engine.intake.smpp_listener import SmppListener
from engine.intake.sms_admission import SmsAdmission
from engine.message.ids import IdSource
from engine.message.number import normalise
from engine.message.sms import account_key, carrier_key
from engine.net.outbox import Outbox
from engine.queue.manager import Manager
from engine.routing.plan import Plan
from engine.routing.router import Router
from engine.routing.sms_routes import SmsRoutes
from engine.storage.inflight import Inflight
from engine.storage.spool.spool import Spool
from engine.storage.tables.credentials import Credentials
from engine.storage.tables.grouped import Grouped
from engine.storage.tables.optouts import OptOuts
from engine.storage.tables.sms_quota import SmsQuota
