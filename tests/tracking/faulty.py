"""A real MLflow server, and a proxy before it that breaks what networks break: seeded, bounded so that it ends."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

#: what happens to a request; "unheard" ones were carried out although the client hears of no success
BEFORE = ("refused", "hanging", "reset")
UNHEARD = ("failed after", "late", "reset after", "truncated", "cut", "emptied")
FAULTS = BEFORE + UNHEARD
SLOW, SECONDS = "slow", 0.1  # no fault: the answer is right, and comes so late
HELD = 1.6  # seconds a request is held: longer than the client's patience
DROPPED = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


@contextmanager
def application(folder: Path, patched):
    """The port of the same server without its launcher, which takes half a minute: its application, in a thread."""
    from mlflow.server import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
        app,
        handlers,
    )
    from werkzeug.serving import WSGIRequestHandler, make_server

    patched.setenv(BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{folder / 'mlflow.db'}")
    patched.setenv(ARTIFACTS_DESTINATION_ENV_VAR, (folder / "artifacts").as_uri())
    patched.setenv(SERVE_ARTIFACTS_ENV_VAR, "true")
    patched.setenv(ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
    patched.setattr(handlers, "_tracking_store", None)
    patched.setattr(handlers, "_artifact_repo", None)
    patched.setattr(WSGIRequestHandler, "log", lambda *_: None)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Proxy(ThreadingHTTPServer):
    """Forwards to a server; of the first requests a share meets a fault, until `most` faults have been made."""

    daemon_threads = True

    def __init__(self, port: int, *, rate: float, most: int, seed: int, faults: tuple[str, ...] = FAULTS) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.rate, self.left, self.faults = port, rate, most, faults
        self.made: Counter[str] = Counter()
        self.requests = 0
        self._random = random.Random(seed)
        self._bag: list[str] = []
        self._lock = threading.Lock()
        self._busy = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def draw(self) -> str:
        with self._lock:
            self.requests += 1
            if self.left <= 0 or self._random.random() >= self.rate:
                return ""
            self.left -= 1
            if not self._bag:  # every kind comes about as often
                self._bag = self._random.sample(self.faults, len(self.faults))
            fault = self._bag.pop()
            self.made[fault] += 1
            return fault

    @contextmanager
    def busy(self):
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def settle(self) -> None:
        """Wait until all requests, late ones too, have been dealt with."""
        while self._busy:
            time.sleep(0.02)

    def handle_error(self, request, client_address) -> None:
        """A client that went away is what this is about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def forward(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(length)
        with self.server.busy():
            fault = self.server.draw()
            if fault in ("hanging", "late"):
                time.sleep(HELD)
            if fault == SLOW:
                time.sleep(SECONDS)
            if fault == "refused":
                self._answer(500, [], b'{"error_code": "INTERNAL_ERROR", "message": "before"}')
                return
            if fault in ("hanging", "reset"):
                self._reset()
                return
            try:
                state, headers, answer = self._ask(body)
            except (OSError, http.client.HTTPException):
                self._reset()
                return
            if fault in ("late", "reset after"):
                self._reset()
            elif fault == "failed after":
                self._answer(500, [], b"no JSON, as gateways like to answer")
            elif fault == "cut":
                self.close_connection = True
            elif fault == "emptied":
                self._answer(state, headers, b"")
            elif fault == "truncated":
                self._answer(state, headers, answer[: len(answer) // 2], len(answer))
                self.close_connection = True
            else:
                self._answer(state, headers, answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in DROPPED}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(self, state: int, headers: list[tuple[str, str]], body: bytes, length: int | None = None) -> None:
        self.send_response_only(state)
        for key, value in headers:
            if key.lower() not in DROPPED:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *args) -> None:
        """Nothing: thousands of lines."""


@contextmanager
def proxied(port: int, **how):
    """A proxy that runs in a thread."""
    proxy = Proxy(port, **how)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


@contextmanager
def silent():
    """The address of a server that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
