"""What is sent in the matrix, and what a consumer saw, in one shape for all clients."""

from dataclasses import dataclass, field
from typing import List, Optional, Tuple


@dataclass
class Sample:
    """A record to publish. Fields that a publisher's protocol lacks are not set on its samples."""

    label: str
    key: Optional[bytes]
    value: Optional[bytes]
    content_type: Optional[str] = None
    correlation: Optional[bytes] = None
    reply_to: Optional[str] = None
    headers: List[Tuple[str, Optional[bytes]]] = field(default_factory=list)
    timestamp: Optional[int] = None
    durable: Optional[bool] = None  # AMQP's delivery mode: 2, 1 or none


@dataclass
class MqttSeen:
    name: str
    value: bytes
    content_type: Optional[str] = None
    correlation: Optional[bytes] = None
    reply_to: Optional[str] = None
    user: List[Tuple[str, str]] = field(default_factory=list)


@dataclass
class KafkaSeen:
    key: Optional[bytes]
    value: Optional[bytes]
    headers: List[Tuple[str, Optional[bytes]]] = field(default_factory=list)
    timestamp: int = -1


@dataclass
class AmqpSeen:
    """A key of None: the client doesn't show anything but bodies."""

    key: Optional[str]
    value: bytes
    content_type: Optional[str] = None
    correlation: Optional[str] = None
    reply_to: Optional[str] = None
    headers: List[Tuple[str, object]] = field(default_factory=list)
    timestamp: Optional[int] = None
    delivery_mode: Optional[int] = None
    exchange: Optional[str] = None


def properties_as_headers(sample):
    """The canonical headers of a sample's properties, in the order that docs/mapping.md gives."""
    made = []
    if sample.content_type is not None:
        made.append(("content-type", sample.content_type.encode()))
    if sample.reply_to is not None:
        made.append(("reply-to", sample.reply_to.encode()))
    if sample.correlation is not None:
        made.append(("correlation-id", sample.correlation))
    if sample.durable is not None:
        made.append(("durable", b"true" if sample.durable else b"false"))
    return made
