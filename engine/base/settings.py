"""The settings: one struct per table of postrider.toml; a field is its own documentation.

`config/postrider.toml` shows every field with its default and reason; a test holds the two together.
Reading and checking is in settings_file.py; nothing else reads the file.
"""

from typing import Literal

import msgspec

from engine.base.settings_tracking import ClickDomain, LedgerSettings, Tracking
from engine.base.units import Duration, Rate, Size

TlsLevel = Literal["none", "opportunistic", "encrypt", "verify"]
ClassName = Literal["transactional", "bulk"]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Node(_Table, frozen=True):
    name: str = "localhost"  #: host name of this node: greeting, EHLO, Received, Message-ID
    data_dir: str = "data"  #: everything that survives a restart; relative to the settings file
    workers: int = 1  #: engines on this node, each a process of its own; as many as cores


class TlsFiles(_Table, frozen=True):
    cert: str  #: PEM chain
    key: str  #: PEM private key
    implicit: bool = False  #: TLS from the first byte (port 465) instead of STARTTLS


class Listener(_Table, frozen=True):
    kind: Literal["smtp", "inbound", "smpp", "http", "tracking", "events"]
    address: str  #: "host:port", "[::1]:port"
    networks: tuple[str, ...] = ()  #: clients that may submit (smtp), read (http); ask (smpp, events)
    tls: TlsFiles | None = None
    auth: bool = True  #: offer AUTH where TLS protects it, or to loopback
    proxy_from: tuple[str, ...] = ()  #: peers that must speak PROXY v1 or v2 first
    xclient_from: tuple[str, ...] = ()  #: peers that may say XCLIENT
    message_class: ClassName = "bulk"  #: class of messages that do not say theirs


class Intake(_Table, frozen=True):
    max_message_bytes: Size = Size(25 << 20)
    max_recipients: int = 1000
    max_connections: int = 2000
    max_connections_per_address: int = 50
    max_command_bytes: Size = Size(2048)  #: with extensions; RFC 5321 asks for 512
    max_auth_bytes: Size = Size(12288)  #: an AUTH line (RFC 4954)
    max_bad_commands: int = 10
    max_idle_commands: int = 100  #: without a message in between; Postfix's smtpd_junk_command_limit
    max_failed_logins: int = 3  #: per session
    max_failed_logins_per_address: int = 20  #: within failed_login_window; then AUTH is 454 there
    failed_login_window: Duration = Duration(1200)
    reverse_dns: bool = False  #: look up the names of clients, for Received and the log
    max_received: int = 50  #: Received fields; more is a loop
    max_header_bytes: Size = Size(256 << 10)
    command_timeout: Duration = Duration(300)
    data_timeout: Duration = Duration(300)
    handshake_timeout: Duration = Duration(30)  #: implicit TLS, from the connection or the PROXY header on
    proxy_timeout: Duration = Duration(10)  #: a proxy sends its header with the first packet
    linger_timeout: Duration = Duration(5)  #: for the last reply to reach a client that is still sending


class SpoolSettings(_Table, frozen=True):
    segment_bytes: Size = Size(64 << 20)  #: a file is closed at this size
    journal_files: int = 4  #: more than so many, and what lives in the oldest moves to its destination's segments
    move_rate: Size = Size(64 << 20)  #: bytes a second that are moved; 0: no limit
    hot_bytes: Size = Size(32 << 20)  #: contents kept in memory before an attempt
    large_bytes: Size = Size(1 << 20)  #: larger contents go to a file of their own while they arrive
    min_free: float = 0.10  #: fraction of free space and inodes below which intake answers 452; 0: off
    max_memory: Size = Size(0)  #: of the daemon; 0: what its control group or the machine has
    memory_guard: float = 0.75  #: fraction of max_memory above which intake answers 452; 0: off


class Resolver(_Table, frozen=True):
    nameservers: tuple[str, ...] = ()  #: "127.0.0.1:5353"; empty: those of /etc/resolv.conf
    timeout: Duration = Duration(5)
    attempts: int = 3
    max_queries: int = 1000  #: in flight at once; more wait their turn
    cache_entries: int = 10_000  #: answers kept; routing keeps as many plans
    min_ttl: Duration = Duration(5)  #: an answer with TTL 0 is still used this long
    max_ttl: Duration = Duration(3600)


class Routing(_Table, frozen=True):
    allow_private: bool = False  #: deliver to loopback, private and link-local targets found in DNS
    ipv6: bool = True
    ipv4: bool = True
    port: int = 25
    max_mx: int = 20  #: hosts tried of one MX answer
    providers_file: str = "providers.toml"  #: relative to the settings file


class Route(_Table, frozen=True):
    domain: str  #: "example.net", ".example.net" (subdomains) or "*"; first match wins
    relay: str = ""  #: "host:port"; empty: MX of the domain, with the limits below
    username: str = ""
    password_file: str = ""
    tls: TlsLevel | None = None
    source: str = ""
    connections: int | None = None
    rate: Rate | None = None
    messages_per_connection: int | None = None


class Source(_Table, frozen=True):
    name: str
    address: str = ""  #: local IPv4 address; empty: the kernel chooses
    address6: str = ""
    ehlo: str = ""  #: empty: the node's name


class Provider(_Table, frozen=True):
    """One row of config/providers.toml: limits for the receivers whose MX names end so."""

    name: str
    mx: tuple[str, ...]
    connections: int = 10
    scope: Literal["provider", "site"] = "site"  #: who shares `connections` and `rate`
    messages_per_connection: int = 100
    rate: Rate | None = None  #: None: that of [site]
    tls: TlsLevel | None = None  #: None: the default of [delivery]
    stop: tuple[tuple[str, Duration], ...] = ()  #: (text in a reply, close the site this long)


class SiteDefaults(_Table, frozen=True):
    """Limits of a site that no provider names."""

    connections: int = 10
    messages_per_connection: int = 100
    rate: Rate = Rate(100)


class Dkim(_Table, frozen=True):
    domain: str  #: of the From header; "*" is the fallback
    selector: str
    key: str  #: PEM file, RSA or Ed25519, mode 0600
    identity: str = ""  #: d= to sign with; empty: the domain (needed with "*")


class Signing(_Table, frozen=True):
    threads: int = 2  #: for RSA, all workers together; as many as cores, or 0 with a worker for each: no threads
    queue: int = 1000  #: messages waiting for a thread; further ones wait before they are prepared
    expire_after: Duration = Duration(0)  #: x= of signatures; 0: none. Receivers that queue mail check late


class Carrier(_Table, frozen=True):
    """An SMSC that takes our messages. The order in which those that may have one are tried: routing/sms_routes.py."""

    name: str
    host: str
    system_id: str
    port: int = 2775
    password: str = ""  #: up to 16 octets, whatever SMPP says of 8
    password_file: str = ""
    system_type: str = ""
    outbind_system_id: str = ""  #: the carrier's own, if it may connect to us and ask us to bind; empty: it may not
    outbind_password: str = ""
    bind: Literal["transceiver", "transmitter", "pair"] = "transceiver"  #: pair: a transmitter and a receiver
    binds: int = 1
    window: int = 10  #: submits of a bind without an answer
    rate: Rate | None = None  #: parts, all binds together
    tls: TlsLevel | bool = "none"  #: none, encrypt (any certificate) or verify; true is verify
    interface_version: Literal["3.3", "3.4", "5.0"] = "3.4"
    prefixes: tuple[str, ...] = ()  #: of numbers, digits without "+"; none: all numbers
    countries: tuple[str, ...] = ()  #: "GB"
    networks: tuple[str, ...] = ()  #: "GB:Vodafone"
    senders: tuple[str, ...] = ()  #: sender ids; none: all
    classes: tuple[ClassName, ...] = ("transactional", "bulk")
    price: str = "0"  #: of a part, a decimal number
    alphabet: Literal["gsm", "latin-1", "ascii"] = "gsm"  #: what the carrier takes data_coding 0 for
    languages: tuple[str, ...] = ()  #: whose national shift tables it knows
    latin1: bool = False  #: data_coding 3 may be used
    join: Literal["udh-8", "udh-16", "sar", "payload"] = "udh-8"  #: how parts are told to belong together
    spare_octets: int = 0  #: of the 140 of a part, those that the carrier needs for itself
    max_parts: int = 10
    transliterate: bool = False  #: quotes, dashes, ... that cost a whole message its alphabet become plain ones
    tlvs: tuple[tuple[str, str], ...] = ()  #: (tag, text) of vendors, with each submit that has no such tag
    receipts: bool = True  #: ask for a receipt of every part
    receipt_timeout: Duration = Duration(3 * 86400)  #: then a missing one is an event
    response_timeout: Duration = Duration(60)
    enquire_link: Duration = Duration(30)


class Account(_Table, frozen=True):
    """An application that submits SMS over SMPP."""

    system_id: str
    password: str = ""
    credential: str = ""  #: the login in the credential table whose password it is instead
    networks: tuple[str, ...] = ()  #: where it may come from; none: anywhere
    outbind: str = ""  #: "host:port", called when something waits and no bind of its receives; empty: it is not called
    outbind_tls: TlsLevel | bool = "none"  #: as of a carrier
    outbind_password: str = ""  #: ours, said in outbind
    max_binds: int = 10
    rate: Rate | None = None  #: messages; more are throttled
    window: int = 1000  #: messages of a bind that are not answered yet
    senders: tuple[str, ...] = ()  #: sender ids it may use; none: all
    quota: int = 0  #: parts a day; 0: no limit
    message_class: ClassName = "bulk"
    track: Literal["", "none", "anonymous", "full"] = ""  #: of its links; "": as [tracking] says
    alphabet: Literal["gsm", "latin-1", "ascii", "utf-8"] = "gsm"  #: what it means by data_coding 0
    receipts: Literal["text", "both"] = "both"  #: both: with TLVs, too
    long_answers: Literal["payload", "parts"] = "payload"  #: over 254 octets: in message_payload, or cut
    stop_words: tuple[str, ...] = ()  #: opt-out words of its own, besides STOP and the like
    start_words: tuple[str, ...] = ()
    help: str = ""  #: what HELP and INFO are answered with; empty: by the application


class Keyword(_Table, frozen=True):
    """Answers that begin with a word have their own way. The first row that fits wins."""

    word: str  #: the first word of the message, in any case; "*": whatever it says
    sender: str = ""  #: the number it was sent to; empty: any
    account: str = ""  #: system_id of the account that has it, or
    url: str = ""  #: that it is posted to as JSON
    allow_private: bool = False  #: the URL may be at a loopback, private or link-local address


class Sms(_Table, frozen=True):
    country: str = ""  #: of numbers without "+" and country code, as "GB"; empty: all are international
    max_binds: int = 1000  #: of all accounts together
    bind_timeout: Duration = Duration(30)
    enquire_link: Duration = Duration(60)
    park: Duration = Duration(60)  #: how long an unknown receipt waits for its message
    max_parked: int = 100_000  #: such receipts; more are refused, and come again
    recent: int = 100_000  #: messages without their receipts that are kept in memory; of others the table is asked
    history: Duration = Duration(3 * 86400)  #: how long it is known what was sent, for answers and late receipts
    reassembly: Duration = Duration(1800)  #: then an answer with missing parts is passed on as it is
    keep_receipts: Duration = Duration(7 * 86400)  #: for an application that is not bound
    default_account: str = ""  #: system_id of the account that has answers nobody else has
    stop_text: str = "You have unsubscribed and will get no more messages. Reply START to get them again."
    stop_text_ru: str = "Вы отписались и больше не получите сообщений. Ответьте СТАРТ, чтобы получать их снова."
    start_text: str = "You are subscribed again. Reply STOP to unsubscribe."
    start_text_ru: str = "Вы снова подписаны. Ответьте СТОП, чтобы отписаться."
    post_timeout: Duration = Duration(10)  #: for a URL to take an answer
    post_attempts: int = 20  #: then an answer is given up, which is an event


class Inbound(_Table, frozen=True):
    """A domain that listeners of kind inbound take mail for: what comes back."""

    domain: str
    kind: Literal["return-path", "feedback", "reply", "unsubscribe"]
    senders: tuple[str, ...] = ()  #: domains of senders whose mail gets a return path here; none: all
    users: tuple[str, ...] = ()  #: logins whose mail does; none: all
    signed: bool = True  #: a return path for each recipient; False: senders name one of this domain by themselves
    trusted: tuple[str, ...] = ()  #: domains whose DKIM signature makes a report that comes here certain
    replies: str = ""  #: who has what people write: an address, a URL, or a folder; empty: `inbound` in data_dir
    allow_private: bool = False  #: of that URL: loopback, private and link-local addresses


class RetryClass(_Table, frozen=True):
    schedule: str = "30s, 1m, 5m, 15m, 30m, 1h, 2h, 4h*"
    expire_after: Duration = Duration(24 * 3600)


class Retry(_Table, frozen=True):
    schedule: str = "1m, 5m, 15m, 30m, 1h, 2h, 4h*"  #: `*`: the last step repeats
    expire_after: Duration = Duration(72 * 3600)
    jitter: float = 0.10  #: each step varies by this fraction
    transactional: RetryClass = RetryClass()


class Delivery(_Table, frozen=True):
    max_connections: int = 1000  #: outgoing, all sites together
    max_recipients: int = 50  #: per transaction
    max_hosts: int = 5  #: tried for one transaction; Postfix's smtp_mx_address_limit
    tls: TlsLevel = "opportunistic"
    connect_timeout: Duration = Duration(30)
    banner_timeout: Duration = Duration(60)
    command_timeout: Duration = Duration(60)  #: EHLO, STARTTLS, AUTH, MAIL, RSET
    rcpt_timeout: Duration = Duration(120)
    data_timeout: Duration = Duration(120)
    end_of_data_timeout: Duration = Duration(600)
    idle_timeout: Duration = Duration(5)
    transaction_timeout: Duration = Duration(900)


class Dsn(_Table, frozen=True):
    sender_name: str = "Mail Delivery System"
    postmaster: str = ""  #: address in From of notifications; empty: MAILER-DAEMON@ the node's name
    delay_notice: Duration = Duration(4 * 3600)  #: DELAY reports, to those who asked
    delay_by_default: bool = False  #: also to senders who said nothing
    gather: Duration = Duration(1)  #: failures of one message at several destinations, in one notification; 0: off
    max_return_bytes: Size = Size(50 << 10)  #: larger contents are returned as headers


class Bounces(_Table, frozen=True):
    rules_file: str = "bounces.toml"  #: relative to the settings file


class SuppressionSettings(_Table, frozen=True):
    """Who must not be sent to; see feedback/suppressor.py."""

    automatic: bool = True  #: bounces and complaints suppress
    notify: bool = True  #: a sender of mail is told of recipients who are suppressed, as of others that fail
    hard_bounces: int = 1  #: so many within the window suppress an address
    hard_bounce_window: Duration = Duration(30 * 86400)
    hard_bounce_expires: Duration = Duration(180 * 86400)  #: 0: never
    complaints: int = 1
    complaint_window: Duration = Duration(30 * 86400)
    complaint_expires: Duration = Duration(0)
    unsubscribe_expires: Duration = Duration(0)


class Log(_Table, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Events(_Table, frozen=True):
    segment_bytes: Size = Size(64 << 20)
    keep: Duration = Duration(7 * 86400)
    keep_bytes: Size = Size(10 << 30)  #: on disk, of each worker
    readers: tuple[str, ...] = ()  #: logins that pull the events of all tenants


class Webhook(_Table, frozen=True):
    """A URL that has the events posted to it."""

    name: str
    url: str
    secret: str = ""  #: for the signature
    secret_file: str = ""
    types: tuple[str, ...] = ()  #: of events; none: all
    batch_events: int = 500
    batch_bytes: Size = Size(1 << 20)
    batch_wait: Duration = Duration(0.2)  #: how long the first event of a batch waits for more
    timeout: Duration = Duration(10)
    longest_pause: Duration = Duration(300)  #: between attempts
    allow_private: bool = False  #: loopback, private and link-local addresses


class Settings(_Table, frozen=True):
    """All of postrider.toml. Paths are absolute once loaded."""

    node: Node = Node()
    listener: tuple[Listener, ...] = ()
    intake: Intake = Intake()
    spool: SpoolSettings = SpoolSettings()
    resolver: Resolver = Resolver()
    routing: Routing = Routing()
    route: tuple[Route, ...] = ()
    source: tuple[Source, ...] = ()
    site: SiteDefaults = SiteDefaults()
    provider: tuple[Provider, ...] = ()  #: from providers_file; also allowed in postrider.toml, which goes first
    dkim: tuple[Dkim, ...] = ()
    signing: Signing = Signing()
    carrier: tuple[Carrier, ...] = ()
    account: tuple[Account, ...] = ()
    keyword: tuple[Keyword, ...] = ()
    sms: Sms = Sms()
    inbound: tuple[Inbound, ...] = ()
    retry: Retry = Retry()
    delivery: Delivery = Delivery()
    dsn: Dsn = Dsn()
    bounces: Bounces = Bounces()
    suppression: SuppressionSettings = SuppressionSettings()
    tracking: Tracking = Tracking()
    click_domain: tuple[ClickDomain, ...] = ()
    ledger: LedgerSettings = LedgerSettings()
    log: Log = Log()
    events: Events = Events()
    webhook: tuple[Webhook, ...] = ()
