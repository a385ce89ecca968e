"""Where do the nodes of a gang find each other? On a board: one small object for each node in the function's part of the state bucket.

Who can write there has the function's role, so an entry is a node's own word; everything on it is public all the same. The attempt is part
of the name: what an earlier attempt has left is never looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from faassupervisor import contract
from faassupervisor.nodes.keys import PRIME_BYTES, is_public
from faassupervisor.nodes.node import is_ipv4
from faassupervisor.state import State

ENTRY_BYTES: Final = 2048  # a whole one has less than 700
_MOST_SLOTS: Final = 100_000
_PER_DELETION: Final = 1000  # AmazonS3/latest/API/API_DeleteObjects
_HEX: Final = re.compile(rf"[0-9a-f]{{1,{2 * PRIME_BYTES}}}")
_ARCHITECTURE: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")


class BoardError(Exception):
    """The board could not be asked, or what is on it is no entry; the text says why. It may be different a moment later."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a node tells the others. `port` is where the main node listens."""

    public: int
    address: str
    slots: int
    architecture: str
    port: int | None = None

    def to_json(self) -> bytes:
        document: dict[str, object] = {
            "public": f"{self.public:x}",
            "address": self.address,
            "slots": self.slots,
            "architecture": self.architecture,
        }
        if self.port is not None:
            document["port"] = self.port
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Entry:
        """Raises ValueError for what no node has written."""
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise ValueError("a JSON object was expected")  # noqa: TRY004
        public, address, architecture, port = (raw.get(name) for name in ("public", "address", "architecture", "port"))
        if not isinstance(public, str) or not _HEX.fullmatch(public) or not is_public(int(public, 16)):
            raise ValueError("public: a public value was expected")
        if not isinstance(address, str) or not is_ipv4(address):
            raise ValueError("address: an IPv4 address was expected")
        if not isinstance(architecture, str) or not _ARCHITECTURE.fullmatch(architecture):
            raise ValueError("architecture: a word was expected")
        if port is not None and not _within(port, 1, 65535):
            raise ValueError("port: a port was expected")
        if not _within(raw.get("slots"), 0, _MOST_SLOTS):
            raise ValueError("slots: a number was expected")
        return cls(int(public, 16), address, raw["slots"], architecture, port)


class Board(Protocol):
    """1. What was posted is read, by every node of this attempt and no other.
    2. Only nodes of this gang can post.
    3. `read` answers None while nothing is there. `clear` takes away what there is of these nodes, which may be nothing.
    4. All three raise BoardError, after which they may be tried again.
    """

    def post(self, index: int, entry: Entry) -> None: ...
    def read(self, index: int) -> Entry | None: ...
    def clear(self, indexes: Iterable[int]) -> None: ...


class StateBoard:
    def __init__(self, state: State, job_id: str, attempt: int) -> None:
        self._state = state
        self._job = f"{state.prefix}{contract.GANG_FOLDER}{job_id}/"
        self._attempt = attempt
        self._folder = f"{self._job}{attempt}/"

    def post(self, index: int, entry: Entry) -> None:
        key = f"{self._folder}{index}"
        try:
            self._state.client.put_object(
                Bucket=self._state.bucket, Key=key, Body=entry.to_json(), ContentType="application/json"
            )
        except (ClientError, BotoCoreError, HTTPError, OSError) as error:
            raise BoardError(f"{self._state.where(key)} cannot be written: {_reason(error)}") from error

    def read(self, index: int) -> Entry | None:
        key = f"{self._folder}{index}"
        try:
            answer = self._state.client.get_object(Bucket=self._state.bucket, Key=key)
            with answer["Body"] as body:
                text = body.read(ENTRY_BYTES + 1)
        except ClientError as error:
            # S3 answers 403 for an object that is not there to who may not list the bucket (AmazonS3/latest/API/API_GetObject).
            if error.response["Error"].get("Code") == "NoSuchKey" or _status(error) == 403:
                return None
            raise BoardError(f"{self._state.where(key)} cannot be read: {_reason(error)}") from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise BoardError(f"{self._state.where(key)} cannot be read: {_reason(error)}") from error
        try:
            if len(text) > ENTRY_BYTES:
                raise ValueError(f"it has more than {ENTRY_BYTES} bytes")  # noqa: TRY301
            return Entry.from_json(text)
        except (ValueError, RecursionError) as error:
            raise BoardError(f"{self._state.where(key)} is no entry of a node: {error}") from error

    def clear(self, indexes: Iterable[int]) -> None:
        """What earlier attempts have left goes too: the main node of one may have had no time for it."""
        keys = (f"{self._job}{attempt}/{index}" for index in indexes for attempt in range(1, self._attempt + 1))
        while some := list(islice(keys, _PER_DELETION)):
            try:
                answer = self._state.client.delete_objects(
                    Bucket=self._state.bucket, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True}
                )
            except (ClientError, BotoCoreError, HTTPError, OSError) as error:
                raise BoardError(f"{self._state.where(self._folder)} cannot be removed: {_reason(error)}") from error
            for refused in answer.get("Errors", ()):
                what = f"{refused.get('Code', '')}: {refused.get('Message', '')}"
                raise BoardError(f"{self._state.where(refused.get('Key', self._folder))} cannot be removed: {what}")


def in_words(indexes: Iterable[int]) -> str:
    """`node 2`; `nodes 2 and 5`; `nodes 0 to 3, 7 and 9`."""
    parts = list(_runs(sorted(indexes)))
    several = len(parts) > 1 or " to " in parts[0]
    said = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"nodes {said}" if several else f"node {said}"


def _runs(indexes: list[int]) -> Iterator[str]:
    first = 0
    for number, index in enumerate(indexes):
        last = number + 1 == len(indexes) or indexes[number + 1] != index + 1
        if not last:
            continue
        if number - first < 2:
            yield from (str(one) for one in indexes[first : number + 1])
        else:
            yield f"{indexes[first]} to {index}"
        first = number + 1


def _within(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _reason(error: Exception) -> str:
    if isinstance(error, ClientError):
        told = error.response["Error"]
        return f"{told.get('Code', '')}: {told.get('Message', '')}"
    return str(error)
