"""The studio without a browser: who gets in, what the pages say, what the questions answer."""

import json
import re
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from configs.errors import UserError
from configs.recipe import load_recipe
from studio.app import REPORT_PAGES, TRY_PAGES, build_app
from studio.charts import bar_table, line_chart
from studio.config import StudioOptions
from studio.run_folders import find_runs, read_lines

OWN = {"x-mindshift-studio": "1"}
PASSWORD = "a long enough password"
PAGES = ["", *REPORT_PAGES, *TRY_PAGES]


def client(runs: Path, password: str | None = None, **more: Any) -> TestClient:
    app = build_app(StudioOptions(runs=runs, locale="en_GB"), password)
    return TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=False, **more)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_and_asks_nobody_else(runs: Path, page: str) -> None:
    response = client(runs).get(f"/{page}")
    assert response.status_code == 200
    assert "<h1>" in response.text
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert not re.findall(r"(?:src|href|action)=\"(?!/|#|\?)", response.text)
    assert "<style" not in response.text
    assert "style=" not in response.text


@pytest.mark.parametrize("page", [*REPORT_PAGES, *TRY_PAGES])
def test_every_page_says_what_makes_its_contents_when_there_is_nothing(tmp_path: Path, page: str) -> None:
    response = client(tmp_path).get(f"/{page}")
    assert response.status_code == 200
    assert "Nothing here yet" in response.text or "No responder yet" in response.text


def test_report_pages_show_the_figures(runs: Path) -> None:
    browser = client(runs)
    wanted = {
        "corpus": ["too_short", "9,000"], "training": ["Still running", "Loss by step"],
        "training?run=encoder": ["148.000", "Finished"], "evaluation": ["55.0 %", "Expected calibration error 0.060"],
        "benchmark": ["61.0 ± 1.0", "made_up_task"], "audits": ["canary exposure", "not run", "passed"],
        "training?run=responder": ["perplexity"],
    }  # fmt: skip
    for page, words in wanted.items():
        text = browser.get(f"/{page}").text
        assert all(word in text for word in words), page


def test_torn_figures_are_a_state_not_a_failure(tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"stage": "finetune"}', encoding="utf-8")
    (folder / "metrics.json").write_text('{"test": {"classifier": 3}}', encoding="utf-8")
    assert "not in the form" in client(tmp_path).get("/evaluation").text
    (folder / "metrics.json").write_text('{"test', encoding="utf-8")
    assert "no figures" in client(tmp_path).get("/evaluation").text
    (tmp_path / "torn.jsonl").write_text('{"step": 1}\n{"ste', encoding="utf-8")
    assert read_lines(tmp_path / "torn.jsonl") == [{"step": 1}]


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "<b>bold"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"stage": "corpus"}', encoding="utf-8")
    (folder / "report.json").write_text('{"counts": {"dropped": {"<script>": 1}}}', encoding="utf-8")
    text = client(tmp_path).get("/corpus").text
    assert "<script>" not in text.replace('<script src="/static/studio.js" defer></script>', "")
    assert "<b>bold" not in text
    assert "&lt;script&gt;" in text
    assert [run.stage for run in find_runs(tmp_path)] == ["corpus"]


def test_a_wrong_password_lets_nobody_in(runs: Path) -> None:
    browser = client(runs, PASSWORD)
    for page in PAGES:
        assert browser.get(f"/{page}").status_code == 303
    assert browser.post("/api/classify", json={"text": "i feel tired"}, headers=OWN).status_code == 401
    response = browser.post("/sign-in", data={"password": "wrong"}, headers=OWN)
    assert response.status_code == 401
    assert browser.get("/").status_code == 303
    assert not browser.cookies
    browser.cookies.set("mindshift_studio", "planted", domain="127.0.0.1", path="/")
    assert browser.get("/").status_code == 303
    assert browser.post("/sign-in", data={"password": PASSWORD}, headers=OWN).status_code == 303
    assert browser.get("/").status_code == 200
    assert "planted" not in [cookie.value for cookie in browser.cookies.jar]
    assert browser.post("/sign-out", headers=OWN).status_code == 303
    assert browser.get("/").status_code == 303


def test_foreign_pages_and_foreign_names_get_nothing(runs: Path) -> None:
    browser = client(runs)
    assert browser.post("/api/classify", json={"text": "i"}).status_code == 403
    assert browser.post("/api/classify", json={"text": "i"}, headers={"origin": "http://evil.test"}).status_code == 403
    assert browser.get("/", headers={"host": "evil.test:7860"}).status_code == 421


def test_strangers_crowd_nobody_out_and_a_huge_password_is_not_kept(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.sessions.MAX_SESSIONS", 2)
    monkeypatch.setattr("studio.sessions.SECONDS_AFTER_WRONG_PASSWORD", 0)
    browser = client(runs, PASSWORD)
    assert browser.post("/sign-in", data={"password": PASSWORD}, headers=OWN).status_code == 303
    stranger = TestClient(browser.app, base_url="http://127.0.0.1:7860", follow_redirects=False)
    for path in ("/", "/static/studio.css", "/sign-in", "/chat"):
        assert "set-cookie" not in stranger.get(path).headers
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 10_000
            yield b"password=" + b"x" * 9_991

    tracemalloc.start()
    try:
        assert stranger.post("/sign-in", content=body(), headers=OWN).status_code == 401
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent == 2_000_000
    assert used < 10_000_000
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [("studio.example", "https://studio.example"), ("127.0.0.1:7860", "https://studio.example")],
    ids=["the proxy keeps Host", "the proxy writes its own"],
)
def test_a_proxy_in_front_is_answered_under_its_name(runs: Path, host: str, origin: str) -> None:
    options = StudioOptions(runs=runs, public_name="studio.example")
    browser = TestClient(
        build_app(options, PASSWORD), base_url="https://studio.example", follow_redirects=False, headers={"host": host}
    )
    assert browser.get("/").status_code == 303
    wrong = browser.post("/sign-in", data={"password": PASSWORD}, headers={"origin": "https://evil.test"})
    assert wrong.status_code == 403
    right = browser.post("/sign-in", data={"password": PASSWORD}, headers={"origin": origin})
    assert right.status_code == 303
    assert "Secure" in right.headers["set-cookie"]
    assert browser.get("/", headers={"host": "evil.test"}).status_code == 421


def test_every_address_of_this_machine_answers_under_its_own(runs: Path) -> None:
    app = build_app(StudioOptions(runs=runs, host="127.0.0.2"), None)
    assert TestClient(app, base_url="http://127.0.0.2:7860").get("/").status_code == 200
    assert client(runs).get("/", headers={"host": "127.0.0.2:7860"}).status_code == 421


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--host", "0.0.0.0"], "no password is set"),
        (["--host", "studio.example"], "no password is set"),
        (["--public_name", "studio.example"], "no password is set"),
        (["--public_name", "https://studio.example/"], "public_name is 'https://studio.example/'"),
        (["--password_file", "absent"], "cannot be read"),
        (["--password_file", "{short}"], "too short"),
        (["--port", "99999"], "port is 99999"),
    ],
)
def test_an_open_door_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.delenv("MINDSHIFT_STUDIO_PASSWORD", raising=False)
    short = tmp_path / "short"
    short.write_text("abc\n", encoding="utf-8")
    words = [word.replace("{short}", str(short)) for word in arguments]
    with pytest.raises(UserError, match=named):
        load_recipe(StudioOptions, words, "mindshift studio").password()
    assert StudioOptions().password() is None


def test_fill_mask_waits_for_the_acknowledgement(runs: Path) -> None:
    browser = client(runs)
    asked = {"json": {"text": "i feel ___ about work"}, "headers": OWN}
    assert browser.post("/api/fill-mask", **asked).status_code == 403
    browser.post("/acknowledge", data={"diagnosis": "on"}, headers=OWN)
    assert browser.post("/api/fill-mask", **asked).status_code == 403
    browser.post("/acknowledge", data={"diagnosis": "on", "people": "on", "sharing": "on"}, headers=OWN)
    found = browser.post("/api/fill-mask", **asked).json()
    assert set(found) == {"adapted", "base"}
    assert found["adapted"] != found["base"]
    assert found["adapted"] == sorted(found["adapted"], key=lambda fill: -fill["probability"])
    error = browser.post("/api/fill-mask", json={"text": "i feel tired"}, headers=OWN)
    assert error.status_code == 400
    assert "0 gaps" in error.json()["error"]


def test_classify_explains_with_the_texts_own_words(runs: Path) -> None:
    browser = client(runs)
    text = "I feel tired, my boss is loud."
    found = browser.post("/api/classify", json={"text": text}, headers=OWN).json()
    assert [label["name"] for label in found["labels"]] == ["sleep", "work", "hopeful"]
    assert all(label["given"] == (label["probability"] >= label["threshold"]) for label in found["labels"])
    assert "".join(piece["text"] for piece in found["words"]) == text
    assert max(abs(piece["share"]) for piece in found["words"] if piece["share"] is not None) == pytest.approx(1)
    for bad in ("", " ", "x" * 5000):
        assert browser.post("/api/classify", json={"text": bad}, headers=OWN).status_code == 400
    for body in ({"json": [1]}, {"content": b"{"}, {"json": {}}, {"content": b"x" * 500_000}):
        assert browser.post("/api/classify", headers=OWN, **body).status_code == 400  # type: ignore[arg-type]


def test_chat_streams_and_a_crisis_gets_helplines_even_without_a_model(runs: Path, tmp_path: Path) -> None:
    crisis = {"turns": [{"role": "user", "text": "I want to kill myself"}]}
    for folder in (runs, tmp_path):
        (piece,) = lines(client(folder).post("/api/chat", json=crisis, headers=OWN).text)
        assert (piece["kind"], piece["route"]) == ("fixed", "crisis")
        assert "116 123" in piece["text"]
    ordinary = {"turns": [{"role": "user", "text": "my day was long"}]}
    pieces = lines(client(runs).post("/api/chat", json=ordinary, headers=OWN).text)
    assert pieces
    assert all(piece["route"] == "ok" for piece in pieces)
    assert "no responder" in lines(client(tmp_path).post("/api/chat", json=ordinary, headers=OWN).text)[0]["error"]
    for turns in ([], [{"role": "system", "text": "x"}], [{"role": "user"}], "x"):
        assert client(runs).post("/api/chat", json={"turns": turns}, headers=OWN).status_code == 400


def test_a_crisis_gets_helplines_however_long_the_conversation_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the 300 kB that the page sends; test_browser.py shows that it sends no more."""
    monkeypatch.setattr("dialogue.responder.load_encoder", lambda: None)
    browser = client(tmp_path)

    def answer(turns: list[dict[str, str]]) -> dict[str, Any]:
        body = json.dumps({"turns": turns}, ensure_ascii=False).encode()
        assert len(body) < 310_000
        (line,) = lines(browser.post("/api/chat", content=body, headers=OWN).text)
        return line

    crisis = {"role": "user", "text": "I want to kill myself"}
    many = [{"role": role, "text": "hm"} for _ in range(205) for role in ("user", "assistant")]
    huge = [{"role": "assistant", "text": "my day was long \U0001f327 " * 2_400}] * 6
    endless = {"role": "user", "text": "my day was long. " * 2_000 + "\nI want to kill myself"}
    for turns in ([*many, crisis], [*huge, crisis], [endless]):
        line = answer(turns)
        assert (line["kind"], line["route"]) == ("fixed", "crisis")
        assert "116 123" in line["text"]
    assert "no responder" in answer([*many, many[0]])["error"]
    response = browser.post("/api/chat", json={"turns": [*huge, *huge, crisis]}, headers=OWN)
    assert response.status_code == 400
    assert "too long" in response.json()["error"]


def test_a_conversation_is_screened_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def screen(turns: Any, locale: str | None = None) -> None:
        asked.append(locale)

    monkeypatch.setattr("studio.models.answer_without_model", screen)
    monkeypatch.setattr("dialogue.responder.answer_without_model", screen)
    turns = {"turns": [{"role": "user", "text": "my day was long"}]}
    assert lines(client(runs).post("/api/chat", json=turns, headers=OWN).text)
    assert asked == ["en_GB"]


def test_one_folder_that_cannot_be_read_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("foreign", "vanishing", "good"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text('{"stage": "corpus"}', encoding="utf-8")
    (tmp_path / "foreign" / "manifest.json").unlink()
    is_file, stat = Path.is_file, Path.stat

    def refuse(path: Path) -> bool:
        if path.parent.name == "foreign":
            raise PermissionError("denied")  # as Python 3.11 does
        return is_file(path)

    def vanish(path: Path, **more: Any) -> Any:
        if path.parent.name == "vanishing" and sys._getframe(1).f_code.co_name == "_changed":
            raise FileNotFoundError("gone")
        return stat(path, **more)

    monkeypatch.setattr(Path, "is_file", refuse)
    monkeypatch.setattr(Path, "stat", vanish)
    assert sorted(run.name for run in find_runs(tmp_path)) == ["good", "vanishing"]


def test_half_a_character_ends_nothing(runs: Path) -> None:
    """JSON can spell a lone surrogate; no tokenizer takes one."""
    browser = client(runs)
    browser.post("/acknowledge", data={"diagnosis": "on", "people": "on", "sharing": "on"}, headers=OWN)
    for page in ("classify", "fill-mask"):
        response = browser.post(f"/api/{page}", content=b'{"text": "i feel \\ud83d ___"}', headers=OWN)
        assert response.status_code == 400
        assert "half a character" in response.json()["error"]
    for text, route in (("my day was \ud83d long", "ok"), ("i want to ki\ud83dll myself", "crisis")):
        body = {"turns": [{"role": "user", "text": text}]}
        pieces = lines(browser.post("/api/chat", content=json.dumps(body), headers=OWN).text)
        assert pieces
        assert all(piece["route"] == route for piece in pieces)


def test_no_text_is_logged_or_written(
    runs: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    browser = client(runs)
    with caplog.at_level("DEBUG", logger="studio"):
        browser.post("/api/classify", json={"text": "a secretword about work"}, headers=OWN)
        browser.post("/api/chat", json={"turns": [{"role": "user", "text": "a secretword"}]}, headers=OWN)
    captured = capfd.readouterr()
    assert "secretword" not in captured.out + captured.err + caplog.text
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


def test_charts_of_nothing_and_of_one_point() -> None:
    assert line_chart("t", {"a": []}, x="x", y="y") == ""
    assert "polyline" in line_chart("t", {"a": [(1, 2)]}, x="x", y="y")
    assert 'width="0.00"' in bar_table("t", [("a", 0.0, "0")], heading="h", unit="u")
