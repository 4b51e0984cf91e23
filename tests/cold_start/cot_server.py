"""An OpenAI-compatible server in a thread that answers as the test says, and rows with videos to ask it about."""

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Answers each request with `reply(number, body)`: text, or (status, headers, text).

    `number` counts requests; `bodies` holds them in the order they came.
    """

    def __init__(self, reply):
        self.bodies, self.reply = [], reply
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                assert self.path == "/v1/chat/completions"
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server._lock:
                    number = len(server.bodies)
                    server.bodies.append(body)
                entry = server.reply(number, body)
                status, headers, text = entry if isinstance(entry, tuple) else (200, {}, completion(entry))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()


def completion(text):
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})


def told(body):
    """The last part of the user's turn: question, answer, values."""
    return body["messages"][1]["content"][-1]["text"]


def good_path(body, shift=0.0, answer=None):
    """A path as a good model would write it from what it was told; `shift` spoils the centres, metres."""
    text = told(body)
    centers = re.findall(r"(?:Camera|Object) center, frame \d+: (null|\[.*?\])", text)

    def moved(center):
        if center == "null":
            return center
        return "[" + ", ".join(f"{float(number) + shift:.4f}" for number in center[1:-1].split(",")) + "]"

    camera, object_, camera_end, object_end = map(moved, centers)
    letter = answer or re.search(r"Right option: ([A-J])", text)[1]
    return (
        f"<thinking>\nFirst the start, seed {body['seed']}.\n**Spatial State (Initial Frame):**\n"
        f"- Camera Center: {camera}\n- Object Center: {object_}\nThings grow.\n**Spatial State (Final Frame):**\n"
        f"- Camera Center: {camera_end}\n- Object Center: {object_end}\nSo it is.\n</thinking>\n"
        f"<answer>{letter}</answer>"
    )
