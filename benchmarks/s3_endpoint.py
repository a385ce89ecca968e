"""What answers S3's object calls so fast that it is the client that is measured? One program, a few processes, files in memory.

    python benchmarks/s3_endpoint.py FOLDER [--processes N]        prints its port; ends when its standard input does

It keeps what is uploaded as files below FOLDER (a folder in memory, best), and knows objects, ranges, conditions, uploads in parts, listings in pages,
removal, and the checksums that clients give it. It does not look at signatures, and refuses a body without its length or of another length.

Two buckets are special: an object `…-N` of `bottomless` has N zero bytes, and what is put into `discard` is read and dropped.

`/-/delay?ms=20` makes answers leave 20 ms after their request has come, a connection's first one 40 ms: the round trips of a distant service, without
its bandwidth. `/-/counts` tells, and `/-/reset` forgets, how many requests of each kind and how many bytes there were.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import heapq
import json
import mmap
import os
import re
import select
import shutil
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

MIB: Final = 1 << 20
KINDS: Final = ("PUT", "GET", "HEAD", "LIST", "POST", "DELETE", "bytes_in", "bytes_out", "refused")
_ZEROS_BYTES: Final = 4 * MIB
_MAPPED_BYTES: Final = 256 << 10  # bodies from here on are received into their file
_MOST_BODY_BYTES: Final = 5 << 30
_MOST_IN_MEMORY_BYTES: Final = 64 * MIB
_REASONS: Final = {
    100: "Continue",
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    404: "Not Found",
    411: "Length Required",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    501: "Not Implemented",
}
Segment = tuple[str, int, int]  # of a file: from where, how many bytes


class Refusal(Exception):  # noqa: N818 - it is an answer
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    segments: Iterator[Segment] | None = None
    length: int | None = None  # of what the segments hold, or of what a HEAD does not send


class Counts:
    """Numbers that all processes share: the delay, then one row of counters for each process."""

    def __init__(self, processes: int) -> None:
        self._row = struct.Struct(f"{len(KINDS)}q")
        self._shared = mmap.mmap(-1, 8 + self._row.size * processes)
        self._processes, self._own = processes, 0

    def of_process(self, number: int) -> None:
        self._own = 8 + self._row.size * number

    @property
    def delay_s(self) -> float:
        return float(struct.unpack_from("d", self._shared, 0)[0])

    @delay_s.setter
    def delay_s(self, seconds: float) -> None:
        struct.pack_into("d", self._shared, 0, seconds)

    def add(self, kind: str, number: int = 1) -> None:
        place = self._own + 8 * KINDS.index(kind)
        (before,) = struct.unpack_from("q", self._shared, place)
        struct.pack_into("q", self._shared, place, before + number)

    def sums(self) -> dict[str, int]:
        rows = [self._row.unpack_from(self._shared, 8 + self._row.size * n) for n in range(self._processes)]
        return dict(zip(KINDS, map(sum, zip(*rows, strict=True)), strict=True))

    def reset(self) -> None:
        self._shared[8:] = bytes(len(self._shared) - 8)


class Store:
    """Objects as files. One that came in parts is a folder of them; nothing is copied together."""

    def __init__(self, root: Path, counts: Counts) -> None:
        self.root, self._counts = root, counts
        for name in (".uploads", ".checksums", ".zeros", "bottomless", "discard"):
            (root / name).mkdir(exist_ok=True)
        self._zeros = str(root / ".zeros" / "zeros")
        Path(self._zeros).write_bytes(bytes(_ZEROS_BYTES))
        self._number = 0

    def path(self, bucket: str, key: str) -> str:
        name = quote(key, safe="")
        if len(name) > 255:
            raise Refusal(400, "KeyTooLongError")
        return f"{self.root}/{bucket}/{name}"

    def scratch(self) -> str:
        self._number += 1
        return f"{self.root}/.uploads/{os.getpid()}-{self._number}"

    def parts(self, path: str) -> list[tuple[str, int]]:
        """The files of an object with their sizes, in order."""
        try:
            return [(path, os.stat(path).st_size)] if not os.path.isdir(path) else _files(path)
        except FileNotFoundError:
            raise Refusal(404, "NoSuchKey") from None

    def etag(self, path: str) -> str:
        """Changes with the object; the MD5 only of small bodies, as S3's is not for all objects either."""
        found = os.stat(path)
        if not os.path.isdir(path) and found.st_size <= MIB:
            return f'"{hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()}"'
        return f'"{found.st_mtime_ns:016x}{found.st_ino:016x}-1"'

    # -- calls ---------------------------------------------------------------------------------------------------------

    def put(self, bucket: str, key: str, source: str | bytes, headers: dict[str, str]) -> Answer:
        path = self.path(bucket, key)
        if bucket == "discard":
            _remove(source if isinstance(source, str) else "")
            return Answer(headers={"ETag": '"00000000000000000000000000000000-1"'})
        if isinstance(source, bytes):
            scratch = self.scratch()
            _write(scratch, source)
        else:
            scratch = source
        self._replace(scratch, path, bucket)
        given = _checksums(headers)
        self._remember(bucket, key, given)
        etag = (
            f'"{hashlib.md5(source, usedforsecurity=False).hexdigest()}"'
            if isinstance(source, bytes)
            else self.etag(path)
        )
        return Answer(headers={"ETag": etag, **given})

    def found(self, bucket: str, key: str) -> tuple[list[tuple[str, int]], str, float]:
        """An object's files with their sizes, its ETag, and when it was made."""
        if bucket == "bottomless":
            size = int(key.rpartition("-")[2])
            files = [(self._zeros, _ZEROS_BYTES)] * (size // _ZEROS_BYTES) + [(self._zeros, size % _ZEROS_BYTES)]
            return files, f'"{size:032x}-1"', 1_700_000_000.0
        path = self.path(bucket, key)
        return self.parts(path), self.etag(path), os.stat(path).st_mtime

    def get(self, bucket: str, key: str, headers: dict[str, str], *, head: bool) -> Answer:
        files, etag, modified = self.found(bucket, key)
        size = sum(count for _, count in files)
        if (match := headers.get("if-match")) and match.strip('"') not in (etag.strip('"'), "*"):
            raise Refusal(412, "PreconditionFailed")
        told = {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            **({"x-amz-server-side-encryption": "aws:kms"} if "-" in etag else {}),  # whose ETags are no digests either
            "Content-Type": "binary/octet-stream",
            "Last-Modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(modified)),
        }
        first, last, status = 0, size - 1, 200
        if (wanted := headers.get("range", "")).startswith("bytes="):
            first, last, status = *_range(wanted, size), 206
            told["Content-Range"] = f"bytes {first}-{last}/{size}"
        elif headers.get("x-amz-checksum-mode") == "ENABLED":
            told |= self._remembered(bucket, key)
        length = last - first + 1
        segments = None if head or not length else _cut(files, first, length)
        return Answer(status, told, segments=segments, length=length)

    def list(self, bucket: str, query: dict[str, str]) -> Answer:
        folder, prefix = f"{self.root}/{bucket}", query.get("prefix", "")
        after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
        most, delimiter = min(int(query.get("max-keys") or 1000), 1000), query.get("delimiter", "")
        shown = quote if query.get("encoding-type") == "url" else escape
        try:
            keys = [prefix] if bucket == "bottomless" else sorted(unquote(name) for name in os.listdir(folder))
        except FileNotFoundError:
            raise Refusal(404, "NoSuchBucket") from None
        rows: list[str] = []
        folders: dict[str, None] = {}
        last, more = "", False
        for key in keys:
            if not key.startswith(prefix) or key <= after:
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                common = prefix + rest.split(delimiter, 1)[0] + delimiter
                if common in folders or common <= after:
                    continue
                if len(rows) + len(folders) == most:
                    more = True
                    break
                folders[common] = None
                last = common + "\U0010ffff"
                continue
            if len(rows) + len(folders) == most:
                more = True
                break
            files, etag, changed = self.found(bucket, key)
            size = sum(count for _, count in files)
            modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(changed))
            rows.append(
                f"<Contents><Key>{shown(key)}</Key><LastModified>{modified}</LastModified><ETag>{escape(etag)}</ETag>"
                f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
            last = key
        common_rows = "".join(f"<CommonPrefixes><Prefix>{shown(one)}</Prefix></CommonPrefixes>" for one in folders)
        token = f"<NextContinuationToken>{escape(quote(last))}</NextContinuationToken>" if more else ""
        encoding = "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""
        return _xml(
            "ListBucketResult",
            f"<Name>{bucket}</Name><Prefix>{shown(prefix)}</Prefix><KeyCount>{len(rows) + len(folders)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"{encoding}<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(rows)}{common_rows}",
        )

    def start_upload(self, bucket: str, key: str) -> Answer:
        scratch = self.scratch()
        os.mkdir(scratch)
        name = os.path.basename(scratch)
        return _xml(
            "InitiateMultipartUploadResult",
            f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{name}</UploadId>",
        )

    def put_part(self, upload: str, number: int, source: str | bytes, headers: dict[str, str]) -> Answer:
        target = f"{self._upload(upload)}/{number:05d}"
        if isinstance(source, bytes):
            _write(target, source)
        else:
            os.rename(source, target)
        given = _checksums(headers)
        if crc32 := given.get("x-amz-checksum-crc32"):
            _write(f"{self.root}/.checksums/{upload}-{number:05d}", crc32.encode())
        return Answer(headers={"ETag": self.etag(target), **given})

    def complete(self, bucket: str, key: str, upload: str, body: bytes, headers: dict[str, str]) -> Answer:
        folder = self._upload(upload)
        wanted = [f"{int(number):05d}" for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
        there = set(os.listdir(folder))
        if not wanted or wanted != sorted(wanted) or not there.issuperset(wanted):
            raise Refusal(400, "InvalidPart")
        for name in there.difference(wanted):
            os.unlink(f"{folder}/{name}")
        if bucket == "discard":
            shutil.rmtree(folder)
            return _xml("CompleteMultipartUploadResult", f'<Key>{escape(key)}</Key><ETag>"0-1"</ETag>')
        path, checksums = self.path(bucket, key), self._of_parts(upload, wanted, headers)
        self._replace(folder, path, bucket)
        self._remember(bucket, key, checksums)
        return _xml(
            "CompleteMultipartUploadResult",
            f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><ETag>{escape(self.etag(path))}</ETag>",
        )

    def _of_parts(self, upload: str, names: list[str], headers: dict[str, str]) -> dict[str, str]:
        """The CRC-32 of the whole, where the client has asked for it and has told those of all parts, as S3 puts it together."""
        places = [f"{self.root}/.checksums/{upload}-{name}" for name in names]
        there = [place for place in places if os.path.exists(place)]
        told = [int.from_bytes(base64.b64decode(Path(place).read_bytes()), "big") for place in there]
        for place in there:
            os.unlink(place)
        if headers.get("x-amz-checksum-type") != "FULL_OBJECT" or len(there) != len(names):
            return {}
        from scar.aws.digests import crc32_joined, crc32_text

        sizes = [os.stat(f"{self._upload(upload)}/{name}").st_size for name in names]
        whole = crc32_text(crc32_joined(zip(told, sizes, strict=True)))
        return {"x-amz-checksum-crc32": whole, "x-amz-checksum-type": "FULL_OBJECT"}

    def abort(self, upload: str) -> Answer:
        shutil.rmtree(self._upload(upload))
        return Answer(204)

    def delete(self, bucket: str, key: str) -> Answer:
        _remove(self.path(bucket, key))
        return Answer(204)

    def delete_many(self, bucket: str, body: bytes) -> Answer:
        for key in re.findall(r"<Key>(.*?)</Key>", body.decode()):
            _remove(self.path(bucket, key.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))
        return _xml("DeleteResult", "")

    def buckets(self) -> Answer:
        names = (one for one in sorted(os.listdir(self.root)) if not one.startswith("."))
        rows = (
            f"<Bucket><Name>{one}</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket>" for one in names
        )
        return _xml("ListAllMyBucketsResult", f"<Buckets>{''.join(rows)}</Buckets>")

    def need(self, bucket: str) -> None:
        if bucket.startswith(".") or not os.path.isdir(f"{self.root}/{bucket}"):
            raise Refusal(404, "NoSuchBucket")

    # -- files ---------------------------------------------------------------------------------------------------------

    def _upload(self, name: str) -> str:
        folder = f"{self.root}/.uploads/{os.path.basename(name)}"
        if not os.path.isdir(folder):
            raise Refusal(404, "NoSuchUpload")
        return folder

    def _replace(self, source: str, path: str, bucket: str) -> None:
        try:
            if os.path.isdir(path) or (os.path.isdir(source) and os.path.exists(path)):
                _remove(path)
            os.rename(source, path)
        except FileNotFoundError:
            self.need(bucket)
            raise

    def _remember(self, bucket: str, key: str, checksums: dict[str, str]) -> None:
        path = f"{self.root}/.checksums/{hashlib.sha1(f'{bucket}/{key}'.encode(), usedforsecurity=False).hexdigest()}"
        if checksums:
            _write(path, json.dumps(checksums).encode())
        else:
            _remove(path)

    def _remembered(self, bucket: str, key: str) -> dict[str, str]:
        path = f"{self.root}/.checksums/{hashlib.sha1(f'{bucket}/{key}'.encode(), usedforsecurity=False).hexdigest()}"
        try:
            return dict(json.loads(Path(path).read_bytes()))
        except FileNotFoundError:
            return {}


class Connection:
    """One client's: reads a request, waits its delay, sends the answer, and so on."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.loop, self.sock = loop, sock
        self._buffer = bytearray()
        self._request: tuple[str, str, str, dict[str, str]] | None = None
        self._missing = 0
        self._body: bytearray | None = None
        self._file: tuple[str, mmap.mmap, int] | None = None  # path, its bytes, how many are there
        self._fresh = True
        self._out = b""
        self._segments: Iterator[Segment] | None = None
        self._segment: tuple[int, int, int] | None = None
        self._last = False

    def readable(self) -> None:
        try:
            if self._file is not None:
                path, mapped, there = self._file
                with memoryview(mapped) as view, view[there : there + 4 * MIB] as place:
                    count = self.sock.recv_into(place)
                self._file = (path, mapped, there + count)
            else:
                received = self.sock.recv(256 << 10)
                count = len(received)
                if self._body is not None:
                    self._body += received
                else:
                    self._buffer += received
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not count:
            self.close()
        elif self._request is not None:
            self._missing -= count
            if self._missing <= 0:
                self._whole()
        else:
            self._head()

    def _head(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > 64 << 10:
                self.close()
            return
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        rest = bytes(self._buffer[end + 4 :])
        self._buffer.clear()
        method, target, _ = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        path, _, query = target.partition("?")
        self._request = (method, path, query, headers)
        self._last = headers.get("connection", "").lower() == "close"
        try:
            length = int(headers.get("content-length", "0" if method in ("GET", "HEAD", "DELETE", "POST") else "-1"))
        except ValueError:
            length = -1
        if length < 0 or length > _MOST_BODY_BYTES or "transfer-encoding" in headers:
            self._last = True
            self._later(_refused(Refusal(411, "MissingContentLength")))
            return
        self._missing = length - len(rest)
        chunked = "aws-chunked" in headers.get("content-encoding", "")
        if length < _MAPPED_BYTES or chunked or method != "PUT":
            if length > _MOST_IN_MEMORY_BYTES:
                self.close()
                return
            self._body = bytearray(rest)
        else:
            self._file = _mapped(self.loop.store.scratch(), length, rest)
        if self._missing <= 0:
            self._whole()
        elif headers.get("expect", "").lower() == "100-continue" and not rest:
            self.loop.after(self._delay(), self._continue)

    def _continue(self) -> None:
        self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _whole(self) -> None:
        assert self._request is not None
        method, path, query, headers = self._request
        body: str | bytes = b""
        if self._file is not None:
            scratch, mapped, there = self._file
            mapped.close()
            self._file, body, came = None, scratch, there
        else:
            body, self._body = bytes(self._body or b""), None
            came = len(body)
        try:
            if isinstance(body, bytes) and "aws-chunked" in headers.get("content-encoding", ""):
                body = _unchunked(body, headers)
            answer = self.loop.answered(method, path, query, headers, body)
        except Refusal as refusal:
            self.loop.counts.add("refused")
            answer = _refused(refusal)
        self.loop.counts.add("bytes_in", came)
        self._later(answer, head=method == "HEAD")

    def _delay(self) -> float:
        delay = self.loop.counts.delay_s
        fresh, self._fresh = self._fresh, False
        return 2 * delay if fresh else delay

    def _later(self, answer: Answer, *, head: bool = False) -> None:
        length = len(answer.body) if answer.length is None else answer.length
        told = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        end = "Connection: close\r\n" if self._last else ""
        reason = _REASONS.get(answer.status, "Unknown")
        start = f"HTTP/1.1 {answer.status} {reason}\r\nServer: endpoint\r\nx-amz-request-id: 0\r\nContent-Length: {length}\r\n{told}{end}\r\n"
        self._out = start.encode("latin-1") + (b"" if head else answer.body)
        self._segments = None if head else answer.segments
        self.loop.counts.add("bytes_out", 0 if head else length)
        self.loop.after(self._delay(), self.writable)

    def writable(self) -> None:
        """Send until all is sent or the socket is full; then it is the client's turn."""
        try:
            while True:
                if self._out:
                    self._out = self._out[self.sock.send(self._out) :]
                elif self._segment is not None:
                    descriptor, start, count = self._segment
                    sent = os.sendfile(self.sock.fileno(), descriptor, start, count)
                    self._segment = (descriptor, start + sent, count - sent)
                    if sent == count:
                        os.close(descriptor)
                        self._segment = None
                elif self._segments is not None and (following := next(self._segments, None)) is not None:
                    self._segment = (os.open(following[0], os.O_RDONLY), following[1], following[2])
                else:
                    break
        except BlockingIOError:
            self.loop.watch(self, select.EPOLLOUT)
            return
        except OSError:
            self.close()
            return
        self._request, self._segments = None, None
        if self._last:
            self.close()
        else:
            self.loop.watch(self, select.EPOLLIN)

    def close(self) -> None:
        """A body that did not come whole is nowhere."""
        if self._file is not None:
            self._file[1].close()
            _remove(self._file[0])
        if self._segment is not None:
            os.close(self._segment[0])
        self._file = self._segment = None
        self.loop.forget(self)


class Loop:
    """One process: all its connections by epoll, delayed answers by a heap."""

    def __init__(self, listener: socket.socket, store: Store, counts: Counts) -> None:
        self.store, self.counts, self._listener = store, counts, listener
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._due: list[tuple[float, int, object]] = []
        self._order = 0
        self._epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def run(self) -> None:
        while True:
            wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
            for number, event in self._epoll.poll(wait_s):
                if number == self._listener.fileno():
                    self._accept()
                elif (connection := self._connections.get(number)) is None:
                    continue
                elif event & select.EPOLLOUT:
                    connection.writable()
                else:
                    connection.readable()
            while self._due and self._due[0][0] <= time.monotonic():
                action = heapq.heappop(self._due)[2]
                try:
                    action()  # type: ignore[operator]
                except OSError:
                    continue

    def after(self, delay_s: float, action: object) -> None:
        if not delay_s:
            action()  # type: ignore[operator]
            return
        self._order += 1
        heapq.heappush(self._due, (time.monotonic() + delay_s, self._order, action))

    def watch(self, connection: Connection, events: int) -> None:
        self._epoll.modify(connection.sock, events)

    def forget(self, connection: Connection) -> None:
        number = connection.sock.fileno()
        if number >= 0 and self._connections.pop(number, None) is not None:
            self._epoll.unregister(number)
            connection.sock.close()

    def answered(self, method: str, path: str, query: str, headers: dict[str, str], body: str | bytes) -> Answer:
        asked = dict(parse_qsl(query, keep_blank_values=True))
        if path.startswith("/-/"):
            return self._control(path[3:], asked)
        bucket, _, key = unquote(path[1:]).partition("/")
        listing = method == "GET" and not key
        self.counts.add("LIST" if listing else method)
        if not bucket:
            return self.store.buckets()
        if key and bucket not in ("bottomless", "discard"):
            pass  # a bucket that is not there is found out by the file system
        match method:
            case "GET" if listing and "location" in asked:
                return _xml("LocationConstraint", "us-east-1")
            case "GET" if listing:
                return self.store.list(bucket, asked)
            case "GET" | "HEAD" if key:
                return self.store.get(bucket, key, headers, head=method == "HEAD")
            case "HEAD":
                self.store.need(bucket)
                return Answer(headers={"x-amz-bucket-region": "us-east-1"})
            case "PUT" if not key:
                os.makedirs(f"{self.store.root}/{bucket}", exist_ok=True)
                return Answer()
            case "PUT" if "uploadId" in asked:
                if bucket == "discard":
                    body = _dropped(body)
                return self.store.put_part(asked["uploadId"], int(asked["partNumber"]), body, headers)
            case "PUT" if "x-amz-copy-source" not in headers:
                return self.store.put(bucket, key, body, headers)
            case "POST" if "uploads" in asked:
                return self.store.start_upload(bucket, key)
            case "POST" if "uploadId" in asked and isinstance(body, bytes):
                return self.store.complete(bucket, key, asked["uploadId"], body, headers)
            case "POST" if "delete" in asked and isinstance(body, bytes):
                return self.store.delete_many(bucket, body)
            case "DELETE" if "uploadId" in asked:
                return self.store.abort(asked["uploadId"])
            case "DELETE" if key:
                return self.store.delete(bucket, key)
        raise Refusal(501, "NotImplemented")

    def _control(self, what: str, asked: dict[str, str]) -> Answer:
        match what:
            case "delay":
                self.counts.delay_s = float(asked["ms"]) / 1000
            case "reset":
                self.counts.reset()
        return Answer(body=json.dumps(self.counts.sums()).encode())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[sock.fileno()] = Connection(self, sock)
        self._epoll.register(sock, select.EPOLLIN)


def _files(folder: str) -> list[tuple[str, int]]:
    with os.scandir(folder) as found:
        return sorted((one.path, one.stat().st_size) for one in found)


def _cut(files: list[tuple[str, int]], first: int, length: int) -> Iterator[Segment]:
    for path, size in files:
        if first < size and length > 0:
            count = min(size - first, length)
            yield path, first, count
            length -= count
            first = 0
        else:
            first -= size


def _range(wanted: str, size: int) -> tuple[int, int]:
    start, _, end = wanted.removeprefix("bytes=").partition("-")
    first, last = (int(start), int(end) if end else size - 1) if start else (max(0, size - int(end)), size - 1)
    if first >= size:
        raise Refusal(416, "InvalidRange")
    return first, min(last, size - 1)


def _mapped(path: str, length: int, start: bytes) -> tuple[str, mmap.mmap, int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.ftruncate(descriptor, length)
        mapped = mmap.mmap(descriptor, length)
    finally:
        os.close(descriptor)
    mapped[: len(start)] = start
    return path, mapped, len(start)


def _write(path: str, body: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(descriptor, body)
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif path and os.path.exists(path):
        os.unlink(path)


def _dropped(body: str | bytes) -> str | bytes:
    """As much of it as the upload needs to know that it has come."""
    if isinstance(body, bytes):
        return b""
    os.truncate(body, 0)
    return body


def _checksums(headers: dict[str, str]) -> dict[str, str]:
    """What the client says of the whole body; `x-amz-checksum-type` and the algorithm alone are none."""
    return {
        name: value
        for name, value in headers.items()
        if name.startswith("x-amz-checksum-") and name not in ("x-amz-checksum-mode", "x-amz-checksum-algorithm")
    }


def _unchunked(body: bytes, headers: dict[str, str]) -> bytes:
    """An `aws-chunked` body without its frame; checksums in the trailer become headers."""
    out, place = bytearray(), 0
    while True:
        end = body.index(b"\r\n", place)
        count = int(body[place:end].split(b";")[0], 16)
        place = end + 2
        if not count:
            break
        out += body[place : place + count]
        place += count + 2
    for line in body[place:].decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower().startswith("x-amz-checksum-"):
            headers[name.lower()] = value.strip()
    if len(out) != int(headers.get("x-amz-decoded-content-length", len(out))):
        raise Refusal(400, "IncompleteBody")
    return bytes(out)


def _xml(name: str, inside: str) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{name}>'
    return Answer(headers={"Content-Type": "application/xml"}, body=body.encode())


def _refused(refusal: Refusal) -> Answer:
    body = f'<?xml version="1.0"?><Error><Code>{refusal.code}</Code><Message>{refusal.code}</Message></Error>'
    return Answer(refusal.status, {"Content-Type": "application/xml"}, body.encode())


def main() -> None:
    words = argparse.ArgumentParser(description="A fast S3 endpoint on 127.0.0.1, for measuring clients.")
    words.add_argument("folder", type=Path)
    words.add_argument("--processes", type=int, default=2)
    args = words.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    counts = Counts(args.processes)
    store = Store(args.folder, counts)
    children = []
    for number in range(args.processes):
        child = os.fork()
        if not child:
            # The parent's end of standard input is ours as well: when it closes, all are over.
            threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
            counts.of_process(number)
            Loop(listener, store, counts).run()
        children.append(child)
    print(listener.getsockname()[1], flush=True)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
