"""What happens to one request, from the socket to the answer and after.

    Host header of ours? ─► whose is it: /_scar, /v2 (registry), S3, Batch, another service
    ─► walls: what AWS refuses and moto does not ─► moto ─► settle: all that changed is on disk, all events are in the queue
    ─► answer ─► (answer sent) dispatch the events

Nothing is acknowledged before it is settled: when settling fails the caller sees an error, not moto's success.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from flask import Flask
from moto.moto_server import werkzeug_app
from moto.moto_server.werkzeug_app import BackendRequest, DomainDispatcherApplication, create_backend_app

from scar.limits import MIB
from scar.local import hooks, tag_pages, walls
from scar.local.address import (
    Caller,
    Environ,
    S3Address,
    caller,
    is_local_name,
    is_local_origin,
    is_own_address,
    is_s3,
    s3_address,
)
from scar.local.bodies import Bodies, Body
from scar.local.http.door import Endpoints
from scar.local.iam.door import Door as IamDoor
from scar.local.refusal import RefusalError
from scar.local.s3_events import Events
from scar.local.s3_upload import receive_document, receive_object
from scar.local.scope import Scope, working_on
from scar.local.services import Services

StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

REQUEST_BYTES: Final = 128 * MIB  # of any request but an S3 upload; a zip function is at most 50 MB, in base64
FORM_BYTES: Final = 512 * MIB  # of a browser upload, which is read into memory
_log = logging.getLogger("scar.local")


class Store(Protocol):
    """Makes changes of keys durable (s3_keys.Keys)."""

    def record(self, touched: Iterable[tuple[str, str, Any]]) -> int | None: ...

    def sync(self, ticket: int | None) -> None: ...


class _Request(BackendRequest):  # type: ignore[misc]  # moto is untyped here
    """moto's request whose body may be a file."""

    @property
    def data(self) -> Any:
        body = self.environ.get("scar.body")
        return super().data if body is None else body


# What moto loads when it is asked for it, and what is then put right in it.
_CORRECTED_LATE: Final = {"resourcegroupstaggingapi": tag_pages.install}


def create_app(service: Any) -> Flask:
    """moto's WSGI application of one service, with our request class. CORS headers are left out: pages are no callers of ours."""
    app: Flask = create_backend_app(service)
    if service in hooks.LATE_NAMES:
        hooks.check(hooks.LATE_NAMES[service])
        _CORRECTED_LATE[service]()
    app.request_class = _Request
    app.debug = False
    app.config["PROPAGATE_EXCEPTIONS"] = True  # to Front, which answers and logs them
    return app


class Front(DomainDispatcherApplication):  # type: ignore[misc]  # moto is untyped here
    """The WSGI application of the daemon."""

    def __init__(
        self,
        *,
        bodies: Bodies,
        keys: Store,
        services: Services,
        events: Events,
        registry: Application | None,
        batch: Application | None,
        changed: Callable[[Collection[str]], None],
        own: Callable[[str, str | None], Any],
        iam: IamDoor | None = None,
        endpoints: Endpoints | None = None,
    ) -> None:
        """`changed` is told which services of moto's a request changed, once that is on disk; `own` answers `/_scar/<page>`, given the page and the request's Authorization header."""
        werkzeug_app.DISABLE_GLOBAL_CORS = True
        super().__init__(create_app)
        self._bodies, self._keys, self._services, self._events = bodies, keys, services, events
        self._registry, self._batch, self._changed, self._own = registry, batch, changed, own
        self._iam, self._endpoints = iam, endpoints
        self._locks = KeyLocks()
        self._left, self._left_lock = _Left(), threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["scar.input"] = environ["wsgi.input"]
        scope = Scope(request_id=os.urandom(8).hex().upper(), source_ip=environ.get("REMOTE_ADDR", "127.0.0.1"))
        who = caller(environ)
        service = who.service or "s3"
        try:
            return self._route(environ, start_response, scope, who)
        except RefusalError as refusal:
            return _refused(refusal, service, scope, environ, start_response)
        except ConnectionError:
            raise
        except OSError as error:
            _log.exception("%s %s could not be stored", environ["REQUEST_METHOD"], environ.get("PATH_INFO"))
            return _refused(_out_of_space(error), service, scope, environ, start_response)
        except Exception:  # noqa: BLE001 - the door of every request: the caller gets an answer, the log the whole story
            _log.exception("%s %s failed", environ["REQUEST_METHOD"], environ.get("PATH_INFO"))
            failed = RefusalError(500, "InternalError", "The local AWS failed; its log says why (`scar local logs`).")
            return _refused(failed, service, scope, environ, start_response)

    def _route(self, environ: Environ, start_response: StartResponse, scope: Scope, who: Caller) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "")
        if not is_local_name(host) and not is_own_address(host, environ.get("SERVER_NAME", "")):
            raise RefusalError(403, "AccessDenied", "The Host header names another machine.")
        if not is_local_origin(environ.get("HTTP_ORIGIN")):
            raise RefusalError(403, "AccessDenied", "A page of another site may not use the local AWS.")
        path = environ.get("PATH_INFO", "")
        if path.startswith("/moto-api"):
            raise RefusalError(404, "NotFound", "moto's own interface is closed: it would change what is kept on disk.")
        if path.startswith("/_scar/"):
            return _own_answer(
                self._own(path.removeprefix("/_scar/"), environ.get("HTTP_AUTHORIZATION")), start_response
            )
        if self._endpoints is not None and self._endpoints.serves(environ):
            return self._endpoints(environ, start_response)
        if self._iam is not None:
            self._iam.check(environ, who)
        if self._registry is not None and who.service is None and (path == "/v2" or path.startswith("/v2/")):
            scope.changed_services.update({"ecr"} if environ["REQUEST_METHOD"] not in ("GET", "HEAD") else ())
            return self._settled(self._registry, environ, start_response, scope)
        if self._batch is not None and who.service == "batch":
            _bounded(environ, REQUEST_BYTES)
            return self._settled(self._batch, environ, start_response, scope)
        if is_s3(environ, who.service):
            return self._s3(environ, start_response, scope)
        return self._service(environ, start_response, scope, who)

    def _s3(self, environ: Environ, start_response: StartResponse, scope: Scope) -> Iterable[bytes]:
        address = s3_address(environ)
        method = environ["REQUEST_METHOD"]
        walls.check_s3(method, address, environ)
        app = self._moto("s3")
        if method in ("GET", "HEAD", "OPTIONS"):
            return self._settled(app, environ, start_response, scope)
        self._take_in(environ, address, scope)
        if not address.key and not _changes_keys(method, address, environ):
            scope.changed_services.add("s3")
        try:
            with self._locks.held(address):
                return self._settled(app, environ, start_response, scope)
        finally:
            if scope.arrived is not None:
                scope.arrived.path.unlink(missing_ok=True)

    def _take_in(self, environ: Environ, address: S3Address, scope: Scope) -> None:
        """The body, verified, out of the socket before any lock is taken."""
        if environ.get("CONTENT_TYPE", "").startswith("multipart/form-data"):
            _bounded(environ, FORM_BYTES)
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read())
            return
        body: Body | bytes
        if _carries_object(environ, address):
            scope.arrived = body = receive_object(environ, self._bodies, durable="uploadId" not in address.query)
        else:
            body = receive_document(environ)
            walls.check_s3_document(environ["REQUEST_METHOD"], address, environ, body)
        environ["scar.body"] = body
        environ["wsgi.input"] = io.BytesIO()
        environ["CONTENT_LENGTH"] = "0"  # whatever the content type says, there is no form to parse

    def _service(self, environ: Environ, start_response: StartResponse, scope: Scope, who: Caller) -> Iterable[bytes]:
        _bounded(environ, REQUEST_BYTES)
        content = environ["wsgi.input"].read()
        environ["wsgi.input"] = io.BytesIO(content)
        app = self.get_application(environ)
        service = str(app.service)
        self._services.wake(service)
        if self._endpoints is not None:
            self._endpoints.prepare(service, environ)
        scope.changed_services.update(self._services.changed_by(service, environ, content))
        walls.check(service, environ, content, who)
        return self._settled(app, environ, start_response, scope)

    def _moto(self, service: str) -> Application:
        with self.lock:
            if service not in self.app_instances:
                self.app_instances[service] = self.create_app(service)
            app: Application = self.app_instances[service]
            return app

    def _settled(
        self, app: Application, environ: Environ, start_response: StartResponse, scope: Scope
    ) -> Iterable[bytes]:
        """Let `app` work, make its changes durable, and only then pass its answer on."""
        answer = _Held()
        with working_on(scope):
            body = app(environ, answer)
            if answer.status >= 400:
                scope.events.clear()  # whatever moto began, it was refused
            try:
                self.settle(scope)
            except BaseException:
                _close(body)
                self._events.dispatch(scope)
                raise
        answer.headers = [(n, v) for n, v in answer.headers if n.lower() not in ("x-amz-request-id", "x-amz-id-2")]
        answer.headers += [("x-amz-request-id", scope.request_id), ("x-amz-id-2", f"{scope.request_id}/local")]
        start_response(answer.line, answer.headers)
        return _Closing(body, lambda: self._events.dispatch(scope)) if scope.accepted else body

    def settle_alone(self, scope: Scope) -> None:
        """The same for a change that no request made."""
        self.settle(scope)
        self._events.dispatch(scope)

    def settle(self, scope: Scope) -> None:
        """All that the request changed is on disk, and its events are accepted, when this returns."""
        try:
            self._write_down(scope)
            self._events.hand_on(scope)
            self._services.save(scope.changed_services)
        except OSError:
            self._keep_for_later(scope)
            raise
        self._changed(scope.changed_services)
        for body in scope.discarded:
            self._bodies.discard(body)

    def settle_left(self) -> None:
        """Write down what could not be written when it was asked for. Raises OSError as long as that is so."""
        with self._left_lock:
            left, self._left = self._left, _Left()
        if not left:
            return
        alone = Scope(request_id="", touched=list(left.touched.values()), changed_services=left.services)
        try:
            with self._locks.all():
                self._write_down(alone)
            self._services.save(alone.changed_services)
        except OSError:
            with self._left_lock:
                self._left.add(left)
            raise
        self._changed(alone.changed_services)
        for body in left.discarded:
            self._bodies.discard(body)

    def _keep_for_later(self, scope: Scope) -> None:
        """moto has done it all the same, and whoever looks must not be shown what a restart undoes."""
        touched = {(bucket, key, id(version)): (bucket, key, version) for bucket, key, version in scope.touched}
        with self._left_lock:
            self._left.add(_Left(touched, set(scope.changed_services), list(scope.discarded)))

    def _write_down(self, scope: Scope) -> None:
        ticket = self._keys.record(scope.touched) if scope.touched else None
        self._keys.sync(ticket)


def _refused(
    refusal: RefusalError, service: str, scope: Scope, environ: Environ, start_response: StartResponse
) -> Iterable[bytes]:
    headers, body = refusal.wire(service, scope.request_id)
    start_response(f"{refusal.status} {refusal.code}", headers)
    return [body if environ["REQUEST_METHOD"] != "HEAD" else b""]


def _carries_object(environ: Environ, address: S3Address) -> bool:
    if environ["REQUEST_METHOD"] != "PUT" or not address.key or "HTTP_X_AMZ_COPY_SOURCE" in environ:
        return False
    return "uploadId" in address.query or not address.asks_for("acl", "tagging", "retention", "legal-hold", "torrent")


def _changes_keys(method: str, address: S3Address, environ: Environ) -> bool:
    """Bucket requests that change keys only: DeleteObjects and browser uploads."""
    return method == "POST" and (
        address.asks_for("delete") or environ.get("CONTENT_TYPE", "").startswith("multipart/form-data")
    )


def _bounded(environ: Environ, limit: int) -> None:
    length = environ.get("CONTENT_LENGTH") or "0"
    if int(length) > limit or environ.get("wsgi.input_terminated"):
        raise RefusalError(
            413, "RequestEntityTooLargeException", f"The request is above {limit} bytes, or does not say its length."
        )


def _out_of_space(error: OSError) -> RefusalError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RefusalError(
            507,
            "InsufficientStorage",
            "The disk of the local AWS is full. Nothing is lost that was acknowledged; delete something, or make room.",
        )
    return RefusalError(500, "InternalError", f"The local AWS could not store this: {error.strerror}.")


def _own_answer(document: Any, start_response: StartResponse) -> Iterable[bytes]:
    if document is None:
        raise RefusalError(404, "NotFound", "The local AWS has no such page.")
    body = json.dumps(document).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


@dataclass(slots=True)
class _Left:
    """What requests have changed and could not write down; each thing once, however many requests there were."""

    touched: dict[tuple[str, str, int], tuple[str, str, Any]] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)
    discarded: list[Body] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.touched or self.services or self.discarded)

    def add(self, other: _Left) -> None:
        self.touched |= other.touched
        self.services |= other.services
        self.discarded += other.discarded


class _Held:
    """A `start_response` that only remembers."""

    def __init__(self) -> None:
        self.line = "500 Internal Server Error"
        self.headers: list[tuple[str, str]] = []

    @property
    def status(self) -> int:
        return int(self.line.split(None, 1)[0])

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        self.line, self.headers = status, list(headers)
        return _no_write


def _no_write(_: bytes) -> None:
    raise RuntimeError("moto answers with an iterable")


class _Closing:
    """A response body that does one thing more when the server is done with it, sent or not."""

    def __init__(self, body: Iterable[bytes], then: Callable[[], None]) -> None:
        self._body, self._then = body, then

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            _close(self._body)
        finally:
            self._then()


def _close(body: Iterable[bytes]) -> None:
    if callable(close := getattr(body, "close", None)):
        close()


class KeyLocks:
    """One writer at a time for each key, so that what is recorded is what was done. Keys share a fixed number of locks."""

    STRIPES: Final = 64

    def __init__(self) -> None:
        self._locks = [threading.RLock() for _ in range(self.STRIPES)]

    @contextlib.contextmanager
    def held(self, address: S3Address) -> Iterator[None]:
        """The lock of the address's key; all of them for a request that names no single key."""
        if not address.key:
            with self.all():
                yield
            return
        with self._locks[hash((address.bucket, address.key)) % self.STRIPES]:
            yield

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            yield
