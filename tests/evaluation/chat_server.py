"""A small OpenAI-compatible server whose answer is a function of the request alone; real HTTP, no model.

Run as a command it prints its address and serves until it is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatServer(ThreadingHTTPServer):
    """Keeps the requests it got; `faults` are statuses to answer with first; `delay_s` is how long an answer takes."""

    daemon_threads = True

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.delay_s = delay_s
        self.requests: list[dict] = []
        self.faults: list[int] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        payload = json.loads(body)
        with self.server.lock:
            self.server.requests.append(payload)
            fault = self.server.faults.pop(0) if self.server.faults else 200
        time.sleep(self.server.delay_s)
        digest = hashlib.sha256(body).digest()
        text = f"<answer>{'ABCD'[digest[0] % 4]}</answer> {digest.hex()}"
        answer = {
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(body), "completion_tokens": 7},
        }
        content = json.dumps(answer).encode()
        with contextlib.suppress(OSError):  # the one who asked may be gone
            self.send_response(fault)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serving(delay_s: float = 0.0) -> Iterator[ChatServer]:
    """A running server, stopped afterwards."""
    with ChatServer(delay_s) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
