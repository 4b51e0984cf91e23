"""The endpoint writer and the filter against a stand-in server on this machine, on questions with real videos.

python benchmarks/cot_endpoint.py QA_FOLDER [--samples-per-task 20] [--workers 8]

The stand-in errs by design, more in some tasks than in others: it answers rightly with a chance between 0.4 and 0.95
and misplaces centres by a log-normal share of their length. The figures so show what the rule does with paths of mixed
quality, and what sending, checking and keeping costs; they say nothing of any model.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np

from mllm4d_verl.cold_start import CotConfig, EndpointConfig, SelectionConfig, make_cold_start
from mllm4d_verl.data_tools.schema import read_qa

CENTER = re.compile(r"(?:Camera|Object) center, frame \d+: (null|\[.*?\])")


class StandIn(BaseHTTPRequestHandler):
    """A chat endpoint that reads the right answer from the question and errs as `chances` (by question) say."""

    protocol_version = "HTTP/1.1"
    chances: ClassVar[dict[str, float]] = {}

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": self._path(body)}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def _path(self, body: dict) -> str:
        text = body["messages"][1]["content"][-1]["text"]
        question = text.split("\n")[0].removeprefix("Question: ")
        rng = np.random.default_rng([body["seed"], *text.encode()])
        right = re.search(r"Right option: ([A-J])", text)[1]
        wrong = [letter for letter in re.findall(r"^([A-J])\. ", text, re.M) if letter != right]
        letter = right if rng.random() < self.chances[question] else str(rng.choice(wrong))
        error = rng.lognormal(-3.0, 1.5)
        camera, object_, camera_end, object_end = (self._center(found, error, rng) for found in CENTER.findall(text))
        return (
            f"<thinking>\nFirst the start.\n**Spatial State (Initial Frame):**\n- Camera Center: {camera}\n"
            f"- Object Center: {object_}\nThings change.\n**Spatial State (Final Frame):**\n"
            f"- Camera Center: {camera_end}\n- Object Center: {object_end}\nSo it is.\n</thinking>\n"
            f"<answer>{letter}</answer>"
        )

    def _center(self, text: str, error: float, rng: np.random.Generator) -> str:
        if text == "null":
            return text
        center = np.array(json.loads(text))
        moved = center + error * np.linalg.norm(center) * rng.normal(size=3)
        return "[" + ", ".join(f"{number:.4f}" for number in moved) + "]"

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("qa", type=Path)
    parser.add_argument("--samples-per-task", type=int, default=20)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    rows = read_qa(options.qa / "train.parquet")
    tasks = sorted({row.task for row in rows})
    chance = dict(zip(tasks, np.linspace(0.95, 0.4, len(tasks)), strict=True))
    StandIn.chances = {row.question: float(chance[row.task]) for row in rows}
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = EndpointConfig(f"http://127.0.0.1:{server.server_port}/v1", "stand-in", workers=options.workers)
    config = CotConfig(
        writer="endpoint",
        samples_per_task=options.samples_per_task,
        selection=SelectionConfig(max_per_sample=0),
        endpoint=endpoint,
    )
    with tempfile.TemporaryDirectory(dir=options.qa) as out:  # beside the questions, whose videos are relative
        for name in ("first run", "rerun"):
            start = time.perf_counter()
            report = make_cold_start(options.qa / "train.parquet", out, config)
            seconds = time.perf_counter() - start
            paths = report.asked + report.from_store
            print(f"{name}: {paths} paths in {seconds:.1f} s, {paths / seconds:.0f} a second, {report.asked} asked for")
    server.shutdown()
    print("| task | right | mean score | threshold | paths kept | questions kept |\n|---|---|---|---|---|---|")
    for task, figures in report.tasks.items():
        print(
            f"| {task} | {100 * figures.right_share:.0f}% | {figures.mean_score:.3f} | {figures.threshold:.3f} | "
            f"{100 * figures.passing_share:.0f}% | {100 * figures.passing_samples / figures.samples:.0f}% |"
        )


if __name__ == "__main__":
    main()
