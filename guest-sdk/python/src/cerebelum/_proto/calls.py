"""What a call on the wire is: its path, what goes in, what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self


class Message:
    """What every message can do, for type checkers only: at run time messages are protobuf's, which has no stubs."""

    def SerializeToString(self) -> bytes:
        """The message as it travels."""
        raise NotImplementedError

    @classmethod
    def FromString(cls, data: bytes) -> Self:
        """The message that these bytes are."""
        raise NotImplementedError

    def HasField(self, field_name: str) -> bool:
        """Whether a field that may be absent is there."""
        raise NotImplementedError


Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True)
class Unary(Generic[Request, Answer]):
    """One message there, one back."""

    path: str
    request: type[Request]
    answer: type[Answer]


@dataclass(frozen=True)
class ServerStream(Generic[Request, Answer]):
    """One message there, any number back."""

    path: str
    request: type[Request]
    answer: type[Answer]


@dataclass(frozen=True)
class ClientStream(Generic[Request, Answer]):
    """Any number of messages there, one back."""

    path: str
    request: type[Request]
    answer: type[Answer]
