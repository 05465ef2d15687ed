"""A delivery status notification as its receiver's program reads it: by the email package."""

import email
import email.policy
from email.message import EmailMessage, Message


class Report:
    """A parsed RFC 3464 report. about: the fields of the message; recipients: those of each recipient."""

    def __init__(self, content: bytes) -> None:
        self.message: EmailMessage = email.message_from_bytes(content, policy=email.policy.default)
        assert self.message.get_content_type() == "multipart/report", content
        assert self.message.get_param("report-type") == "delivery-status"
        text, status, returned = self.message.get_payload()
        self.text: str = text.get_content()
        assert status.get_content_type() == "message/delivery-status"
        groups: list[Message] = status.get_payload()
        self.about, self.recipients = groups[0], groups[1:]
        self.returned: EmailMessage = returned

    def field(self, name: str) -> list[str]:
        """This field of each recipient, unfolded."""
        return [" ".join(str(group[name]).split()) for group in self.recipients]

    @property
    def returned_bytes(self) -> bytes:
        """The third part: the message that is reported on, or its header."""
        payload = self.returned.get_payload()
        part = payload[0] if isinstance(payload, list) else payload
        return part.as_bytes() if isinstance(part, Message) else str(part).encode()
