"""A proxy in front of an S3 server that breaks chosen answers in chosen ways."""

import http.client
import socket
import struct
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote

Fault = Literal[
    "slow down",
    "unavailable",
    "reset",
    "reset in body",
    "truncate",
    "flip",
    "late",
    "stall",
    "page",
]
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class FaultProxy:
    """Forwards requests; `break_next` and `break_always` name the answers to be broken.

    Attributes
    ----------
    requests : Counter
        Requests by key, those that were broken included.
    hidden : set of str
        Headers, in lower case, that are taken out of all answers.
    latency_s : float
        Before each answer.
    """

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.requests: Counter[str] = Counter()
        self.hidden: set[str] = set()
        self.latency_s = 0.0
        self.n_open = self.most_open = 0
        self._next: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self.lock = threading.Lock()
        self.end = threading.Event()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def break_next(self, key: str, faults: Iterable[Fault]) -> None:
        """Break the next answers for keys that end with `key`, one fault each."""
        self._next[key].extend(faults)

    def break_always(self, key: str, fault: Fault | None) -> None:
        """Break all answers for keys that end with `key`, or (None) no longer."""
        self._always.pop(key, None)
        if fault:
            self._always[key] = fault

    def fault_for(self, path: str) -> Fault | None:
        key = unquote(path.partition("?")[0])
        with self.lock:
            self.requests[key.removeprefix("/public/")] += 1
            for end, faults in self._next.items():
                if faults and key.endswith(end):
                    return faults.popleft()
            return next((f for end, f in self._always.items() if key.endswith(end)), None)

    def close(self) -> None:
        self.end.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients hang up when they are told nonsense."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        owner = self.owner
        fault = owner.fault_for(self.path)
        with owner.lock:
            owner.n_open += 1
            owner.most_open = max(owner.most_open, owner.n_open)
        try:
            # A closed proxy breaks the connections that are still open, too.
            is_closed = owner.end.wait(owner.latency_s)
            self._answer("reset" if is_closed or owner.end.is_set() else fault)
        finally:
            with owner.lock:
                owner.n_open -= 1

    def _answer(self, fault: Fault | None) -> None:
        if fault == "reset":
            self._reset()
            return
        if fault in ("slow down", "unavailable"):
            self._send(503, {"content-type": "application/xml"}, SLOW_DOWN if "w" in fault else b"")
            return
        if fault == "page":
            self._send(502, {"content-type": "text/html"}, b"<html>Bad gateway<br></html>")
            return
        try:
            status, headers, body = self._forward()
        except OSError:
            self._reset()
            return
        if fault == "flip":
            at = len(body) // 2
            body = body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :]
        half = fault in ("truncate", "reset in body", "stall")
        self._send(status, headers, body, len(body) // 2 if half else len(body))
        if fault == "stall":
            self.owner.end.wait(20)
        if fault == "reset in body":
            self._reset()
        elif half:
            self.close_connection = True

    def _forward(self) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.owner.upstream, timeout=10)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            upstream.request("GET", self.path, headers=headers)
            answer = upstream.getresponse()
            body = answer.read()
            hidden = {*self.owner.hidden, "content-length", "connection", "transfer-encoding"}
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in hidden}
            return answer.status, kept, body
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            upstream.close()

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, n_sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:n_sent])

    def _reset(self) -> None:
        """Close so that the client gets a reset, not an orderly end."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True
