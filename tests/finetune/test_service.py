"""The HTTP service: the same answers as `predict`, limits, key, batching, and no text in any error."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
import httpx

from finetune.batching import Batcher
from finetune.deployment_config import ServeRecipe
from finetune.inference import Classifier, Predictions
from finetune.run_serve import is_loopback
from finetune.service import build_service
from launch.cli import main as mindshift

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-only-this-text-holds"


def ask(service, method: str, path: str, **keys) -> httpx.Response:
    """Send one request to an application in this process, its worker running."""

    async def send() -> httpx.Response:
        async with service.router.lifespan_context(service):
            transport = httpx.ASGITransport(app=service)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **keys)

    return asyncio.run(send())


@pytest.fixture(scope="module")
def classifier(trained: Path) -> Classifier:
    return Classifier.load(trained)


@pytest.fixture
def recipe(trained: Path) -> ServeRecipe:
    return ServeRecipe(model=trained, max_texts=4, max_characters=200, max_waiting_texts=8)


def test_answers_like_predict(classifier: Classifier, recipe: ServeRecipe) -> None:
    texts = ["tired at night", "", "my boss"]
    body = {"texts": [{"id": f"é{number}", "text": text} for number, text in enumerate(texts)]}
    service = build_service(classifier, recipe, api_key=None)
    answer = ask(service, "POST", "/predict", json=body)
    assert answer.status_code == 200
    rows = answer.json()["predictions"]
    expected = classifier.predict(texts)
    names = classifier.decision.label_set.names
    assert [row["id"] for row in rows] == ["é0", "é1", "é2"]
    assert all(set(row) == {"id", "probabilities", "labels"} for row in rows)
    probabilities = [[row["probabilities"][name] for name in names] for row in rows]
    assert np.allclose(probabilities, expected.probabilities_NL, atol=1e-5)
    assert [row["labels"] for row in rows] == classifier.decision.label_names(expected.decisions_NL)
    assert ask(service, "GET", "/health").json() == {"status": "ok"}
    assert ask(service, "GET", "/model").json()["labels"] == list(names)
    assert "/predict" in ask(service, "GET", "/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"texts": [{"text": SECRET}] * 5}, 413),
        ({"texts": [{"text": SECRET * 20}]}, 413),
        ({"texts": [{"text": [SECRET]}]}, 422),
        ({"texts": SECRET}, 422),
        ({"words": SECRET}, 422),
        ({"texts": []}, 200),
    ],
)
def test_limits_and_wrong_bodies(body: dict, status: int, classifier: Classifier, recipe: ServeRecipe) -> None:
    answer = ask(build_service(classifier, recipe, api_key=None), "POST", "/predict", json=body)
    assert answer.status_code == status
    assert SECRET not in answer.text


@pytest.mark.parametrize("body", ['{"texts": [{"text": "\\ud83d"}]}', '{"texts": [{"id": "\\ud83d", "text": "fine"}]}'])
def test_half_a_character_is_refused(body: str, classifier: Classifier, recipe: ServeRecipe) -> None:
    service, headers = build_service(classifier, recipe, api_key=None), {"Content-Type": "application/json"}
    assert ask(service, "POST", "/predict", content=body.encode(), headers=headers).status_code == 422


def test_a_huge_body_is_refused_before_it_is_read(classifier: Classifier, recipe: ServeRecipe) -> None:
    service = build_service(classifier, recipe, api_key=None)
    headers = {"Content-Length": str(10**9)}
    assert ask(service, "POST", "/predict", content=b"{}", headers=headers).status_code == 413

    async def unknown_length():
        yield b"{}"

    assert ask(service, "POST", "/predict", content=unknown_length()).status_code == 411
    both = {"Content-Length": "2", "Transfer-Encoding": "chunked"}
    assert ask(service, "POST", "/predict", content=b"{}", headers=both).status_code == 411
    assert ask(service, "POST", "/predict", content=b"{}", headers={"Content-Length": b"\xb2"}).status_code == 411


def test_a_body_is_not_read_without_the_key(classifier: Classifier, recipe: ServeRecipe) -> None:
    service = build_service(classifier, recipe, api_key="0123456789abcdef")
    headers = {"Content-Type": "application/json"}
    assert ask(service, "POST", "/predict", content=b"no json", headers=headers).status_code == 401
    assert ask(service, "POST", "/predict", content=b"{}", headers={"Content-Length": str(10**9)}).status_code == 401
    allowed = headers | {"X-API-Key": "0123456789abcdef"}
    assert ask(service, "POST", "/predict", content=b"no json", headers=allowed).status_code == 422


def test_key(classifier: Classifier, recipe: ServeRecipe) -> None:
    service = build_service(classifier, recipe, api_key="0123456789abcdef")
    body = {"texts": [{"text": "tired"}]}
    assert ask(service, "POST", "/predict", json=body).status_code == 401
    assert ask(service, "POST", "/predict", json=body, headers={"X-API-Key": "0123456789abcdeF"}).status_code == 401
    assert ask(service, "POST", "/predict", json=body, headers={"X-API-Key": "0123456789abcdef"}).status_code == 200
    assert ask(service, "GET", "/model").status_code == 401
    assert ask(service, "GET", "/model", headers={"X-API-Key": "0123456789abcdef"}).status_code == 200
    assert ask(service, "GET", "/anything").status_code == 401
    documented = ask(service, "GET", "/openapi.json").json()
    assert documented["paths"]["/predict"]["post"]["security"] == [{"APIKeyHeader": []}]
    assert ask(service, "GET", "/health").status_code == 200


class SlowClassifier:
    """Counts batches; each takes a while."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def predict(self, texts: list[str]) -> Predictions:
        time.sleep(0.05)
        if "poison" in texts:
            raise ValueError("broken")
        self.sizes.append(len(texts))
        values = np.array([[float(text)] for text in texts])
        return Predictions(values, values > 0.5)


def test_requests_share_batches_and_get_their_own_answers() -> None:
    slow = SlowClassifier()

    async def many() -> list:
        async with Batcher(slow, max_batch=8, max_waiting=20, wait_seconds=0.01) as batcher:
            asked = [batcher.predict([str(number), str(number + 0.25)]) for number in range(11)]
            return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(many())
    assert [type(answer).__name__ for answer in answers[10:]] == ["TooBusyError"]  # 20 texts may wait, it was the 21st
    for number, answer in enumerate(answers[:10]):
        assert answer.probabilities_NL.tolist() == [[number], [number + 0.25]]
    assert slow.sizes == [8, 8, 4]


def test_one_failure_does_not_stop_the_service() -> None:
    slow = SlowClassifier()

    async def two() -> tuple:
        async with Batcher(slow, max_batch=1, max_waiting=8, wait_seconds=0) as batcher:
            return await asyncio.gather(batcher.predict(["poison"]), batcher.predict(["1"]), return_exceptions=True)

    failed, fine = asyncio.run(two())
    assert isinstance(failed, ValueError)
    assert fine.probabilities_NL.tolist() == [[1.0]]


def test_other_machines_need_a_key(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MINDSHIFT_API_KEY", raising=False)
    assert mindshift(["serve", "--model", str(trained), "--host", "0.0.0.0"]) == 2
    assert "a key is needed" in capsys.readouterr().err
    monkeypatch.setenv("MINDSHIFT_API_KEY", "short")
    assert mindshift(["serve", "--model", str(trained)]) == 2
    assert "shorter than 16" in capsys.readouterr().err
    assert [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "::", "example.org")] == [True] * 3 + [
        False
    ] * 2


@pytest.mark.slow
def test_command_answers_over_a_socket_and_logs_no_text(trained: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "launch.cli", "serve", "--model", str(trained), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
    body = json.dumps({"texts": [{"text": f"tired {SECRET}"}]}).encode()
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5)
            break
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.5)
    request = urllib.request.Request(f"{url}/predict", data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert set(json.load(answer)["predictions"][0]) == {"id", "probabilities", "labels"}
    process.send_signal(signal.SIGINT)
    logged = process.communicate(timeout=30)[0].decode()
    assert "/predict" in logged
    assert SECRET not in logged
