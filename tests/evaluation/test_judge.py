"""A judge model behind a real HTTP server: its verdicts beside the rule's, and what happens when it fails."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from mllm4d_verl.cli.eval import app
from mllm4d_verl.data_tools.endpoint import Endpoint
from mllm4d_verl.evaluation.answers.judge import Judgement, agreement, judge_responses
from mllm4d_verl.evaluation.answers.score import score_answers
from mllm4d_verl.evaluation.benchmarks import Item

OPTIONS = ("left", "right", "not moving")


def item(number, answer="B", options=OPTIONS, kind="choice"):
    return Item(f"q{number}", "v.mp4", f"c{number}", "Where to?", options, answer, kind, "task", value=2.0)


@pytest.fixture
def server():
    """Replies by what the response says: `words` maps a part of it to the judge's reply, (status, text) or text."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append(body)
            asked = body["messages"][0]["content"].partition("<<<")[2].partition(">>>")[0]
            reply = next((reply for part, reply in words.items() if part in asked), "NONE")
            status, text = reply if isinstance(reply, tuple) else (200, reply)
            content = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    words, requests = {}, []
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    http.words, http.requests = words, requests
    http.url = f"http://127.0.0.1:{http.server_port}/v1"
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def ask(server, items, responses, **options):
    endpoint = Endpoint(server.url, "judge", max_retries=options.pop("max_retries", 1))
    return judge_responses(items, responses, endpoint, **options)


def test_replies_are_read_with_thoughts_fences_and_brackets(server):
    server.words.update({"one": "B", "two": "<think>A?</think>\n(b)", "three": "**NONE**", "four": "Option C."})
    judgements = ask(server, [item(n) for n in range(4)], ["one", "two", "three", "four"])
    assert [judgement.choice for judgement in judgements] == ["B", "B", None, "C"]
    assert all(judgement.is_verdict for judgement in judgements)
    body = server.requests[0]
    assert (body["model"], body["temperature"]) == ("judge", 0.0)
    assert "A. left\nB. right\nC. not moving" in body["messages"][0]["content"]


def test_a_reply_that_does_not_fit_is_asked_about_again_and_then_is_no_verdict(server):
    server.words["hm"] = "I think the model means D."
    (judgement,) = ask(server, [item(0)], ["hm"])
    assert (judgement.choice, judgement.is_verdict) == (None, False)
    assert "one of A, B, C or NONE is expected" in judgement.problem
    assert len(server.requests) == 2
    assert "That does not fit" in server.requests[1]["messages"][-1]["content"]


def test_a_dead_endpoint_is_given_up(server):
    server.words["x"] = (404, "no such model")
    judgements = ask(server, [item(n) for n in range(40)], ["x"] * 40, threads=1)
    assert not any(judgement.is_verdict for judgement in judgements)
    assert len(server.requests) == 10
    assert "10 responses in a row got no answer" in judgements[-1].problem


def test_empty_responses_and_numbers_are_not_asked_about(server):
    judgements = ask(server, [item(0), item(1, kind="number", options=())], ["  ", "2"])
    assert [judgement.origin for judgement in judgements] == ["not asked", "not asked"]
    assert not server.requests


def test_kept_replies_are_not_asked_for_again(server, tmp_path):
    server.words["one"] = "B"
    for _ in range(2):
        judgements = ask(server, [item(0)], ["one"], cache_dir=str(tmp_path))
    assert (judgements[0].choice, judgements[0].origin, len(server.requests)) == ("B", "cache", 1)


def test_agreement_counts_where_the_judge_is_more_lenient():
    items = [item(n) for n in range(5)]
    scores = score_answers(items, ["B", "eastwards it seems", "B. left", "A", "C"])
    judged = [
        Judgement(choice, origin)
        for choice, origin in (("B", "endpoint"), ("B", "endpoint"), (None, "cache"), ("B", "cache"), (None, "nobody"))
    ]
    figures = agreement(scores, judged, items)
    assert {key: figures[key] for key in ("judged", "unjudged", "only_judge", "only_rule", "other_option")} == {
        "judged": 4,
        "unjudged": 1,
        "only_judge": 1,
        "only_rule": 0,
        "other_option": 1,
    }
    assert (figures["agree"], figures["strict"], figures["strict_by_rule"]) == (50.0, 75.0, 25.0)
    # both name B, none, other: 2 of 4 agree; by chance (1*3 + 2*1 + 1*0) / 16
    assert figures["kappa"] == pytest.approx((0.5 - 5 / 16) / (1 - 5 / 16))
    assert agreement(scores, [Judgement(None, "nobody")] * 5, items)["agree"] is None


def test_verdicts_stand_beside_the_rules_and_change_nothing(server, tmp_path):
    server.words.update({"It goes there": "B", "right": "B"})
    record = {"video": "videos_real/a.mp4", "question": "?", "choices": dict(zip("ABC", OPTIONS, strict=True))}
    records = [
        {**record, "id": f"validation_{n}", "answer": "right", "response": text}
        for n, text in enumerate(["right", "It goes there."])
    ]
    file = tmp_path / "m.json"
    file.write_text(json.dumps(records))
    arguments = ["--benchmark", "vlm4d", "--judge-url", server.url, "--judge-model", "judge", "--json"]
    done = CliRunner().invoke(app, ["score", str(file), *arguments, "--out", str(tmp_path / "scored.jsonl")])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["correct"], figures["invalid"]) == (1, 1)
    assert figures["judge"]["model"] == "judge"
    assert (figures["judge"]["strict"], figures["judge"]["strict_by_rule"], figures["judge"]["only_judge"]) == (
        100,
        50,
        1,
    )
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert [(line["choice"], line["judge"]["choice"]) for line in scored] == [("B", "B"), (None, "B")]
