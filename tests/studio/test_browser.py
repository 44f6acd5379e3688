"""The studio in a real headless Chromium: no console error, the three trying pages end to end, keyboard, phone, dark.

Needs Debian's `chromium`; it is installed where that is possible (root with apt-get), else these tests are skipped.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.app import REPORT_PAGES, TRY_PAGES

PAGES = ["", *REPORT_PAGES, *TRY_PAGES, "training?run=encoder"]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync",
]  # fmt: skip
PHONE = {"width": 360, "height": 740}


def find_chromium() -> str:
    found = shutil.which("chromium")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        command = "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"
        subprocess.run(["sh", "-c", command], capture_output=True, timeout=400, check=False)
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is absent: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install -e '.[dev]'")
    executable = find_chromium()
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page that fails its test on any console error, failed request, or request to another host."""
    context = chromium.new_context()
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    # Leaving a page aborts an answer that is still streaming; that is no failure.
    opened.on(
        "requestfailed",
        lambda r: None if r.failure == "net::ERR_ABORTED" else problems.append(f"failed: {r.url} {r.failure}"),
    )
    opened.on("request", lambda r: None if r.url.startswith(("http://127.0.0.1:", "data:")) else problems.append(r.url))
    opened.problems = problems
    yield opened
    context.close()
    assert problems == []


def test_every_page_opens_without_a_console_error_and_fits_a_phone(page: Any, studio: Any) -> None:
    for viewport in ({"width": 1280, "height": 800}, PHONE):
        page.set_viewport_size(viewport)
        for name in PAGES:
            page.goto(f"{studio.url}/{name}")
            assert page.locator("h1").count() == 1
            overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(overflow) <= 0, f"{name} is wider than {viewport['width']} pixels"


def test_fill_mask_from_the_acknowledgement_to_the_words(page: Any, studio: Any) -> None:
    page.goto(f"{studio.url}/fill-mask")
    assert page.locator("#text").count() == 0
    for box in page.locator("input[type=checkbox]").all():
        box.check()
    page.get_by_role("button", name="I agree").click()
    page.get_by_label("A sentence with one gap").fill("i feel ___ about work")
    page.get_by_role("button", name="Fill the gap").click()
    page.locator(".answer table").nth(1).wait_for(timeout=60_000)
    assert page.locator(".answer caption").all_inner_texts() == ["Adapted", "Base"]
    assert page.locator(".answer tbody tr").count() == 12
    page.get_by_label("A sentence with one gap").fill("no gap here")
    page.get_by_role("button", name="Fill the gap").click()
    page.get_by_text("0 gaps").wait_for()
    page.problems.clear()  # the browser reports the answer 400 itself


def test_classify_shows_bars_thresholds_and_words(page: Any, studio: Any) -> None:
    page.goto(f"{studio.url}/classify")
    page.get_by_label("Text").fill("I feel tired, my boss is loud.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".answer .words").wait_for(timeout=60_000)
    assert page.locator(".answer tbody tr").count() == 3
    assert page.locator(".answer .words").inner_text() == "I feel tired, my boss is loud."
    assert page.locator(".answer .words mark").count() >= 1
    assert page.locator(".answer rect.mark").count() == 3


def test_chat_answers_and_a_crisis_shows_the_helplines(page: Any, studio: Any) -> None:
    page.goto(f"{studio.url}/chat")
    message = page.get_by_label("Your message")
    message.fill("my day was long")
    message.press("Enter")
    page.locator(".turn.assistant p:not(:empty)").wait_for(timeout=60_000)
    page.locator("#chat button:first-child:not([disabled])").wait_for(timeout=60_000)
    assert page.locator(".turn.assistant").count() == 1
    assert page.locator(".turn.assistant p").inner_text().strip()
    message.fill("i want to die")
    message.press("Enter")
    page.locator(".turn.crisis").wait_for(timeout=30_000)
    crisis = page.locator(".turn.crisis").inner_text()
    assert "116 123" in crisis
    assert "999" in crisis
    message.fill("never mind, tell me a joke")
    message.press("Enter")
    page.locator(".turn.crisis").nth(1).wait_for(timeout=30_000)
    page.get_by_role("button", name="New conversation").click()
    assert page.locator(".turn").count() == 0
    page.reload()
    assert page.locator(".turn").count() == 0


def test_a_chat_that_fails_opens_the_helplines_and_keeps_what_was_written(page: Any, studio: Any) -> None:
    asked: list[Any] = []

    def refuse(route: Any) -> None:
        asked.append(route.request.post_data_json["turns"])
        route.fulfill(status=400, json={"error": "this conversation is too long"})

    page.route("**/api/chat", refuse)
    page.goto(f"{studio.url}/chat")
    lines = page.locator("details.lines")
    assert lines.get_attribute("open") is None
    message = page.get_by_label("Your message")
    for text in ("my day was long", "it rained"):
        message.fill(text)
        message.press("Enter")
        page.locator("#chat button:first-child:not([disabled])").wait_for()
    assert lines.get_attribute("open") is not None
    assert page.get_by_text("116 123").is_visible()
    assert page.locator(".turn.user p").all_inner_texts() == ["my day was long", "it rained"]
    assert page.locator(".turn.assistant p").all_inner_texts() == ["this conversation is too long"] * 2
    assert [turn["text"] for turn in asked[-1]] == ["my day was long", "this conversation is too long", "it rained"]
    page.problems.clear()  # the browser reports the answer 400 itself


def test_a_chat_that_was_signed_out_opens_the_helplines_and_keeps_what_was_written(
    page: Any, locked_studio: Any
) -> None:
    page.goto(locked_studio.url)
    page.get_by_label("Password").fill(locked_studio.password)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()
    page.goto(f"{locked_studio.url}/chat")
    page.context.clear_cookies()
    page.get_by_label("Your message").fill("my day was long")
    page.keyboard.press("Enter")
    page.get_by_text("You are not signed in.").wait_for()
    assert page.locator("details.lines").get_attribute("open") is not None
    assert page.locator(".turn.user p").inner_text() == "my day was long"
    page.problems.clear()  # the browser reports the answer 401 itself


def reply(text: str, route: str = "ok") -> str:
    return json.dumps({"kind": "words", "text": text, "route": route}) + "\n"


def test_a_new_conversation_hears_nothing_of_the_old_ones_answer(page: Any, studio: Any) -> None:
    asked: list[Any] = []

    def answer(route: Any) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.fulfill(status=200, body=reply("I see."))

    page.route("**/api/chat", answer)
    page.goto(f"{studio.url}/chat")
    message = page.get_by_label("Your message")
    message.fill("my day was long")
    message.press("Enter")
    page.locator(".turn.assistant").wait_for()
    page.get_by_role("button", name="New conversation").click()
    message.fill("it rained")
    message.press("Enter")
    page.get_by_text("I see.").wait_for()
    assert [turn["text"] for turn in asked[1].request.post_data_json["turns"]] == ["it rained"]
    message.fill("and then?")
    message.press("Enter")
    page.locator(".turn.assistant").nth(1).get_by_text("I see.").wait_for()
    assert [turn["text"] for turn in asked[2].request.post_data_json["turns"]] == ["it rained", "I see.", "and then?"]
    assert page.locator("details.lines").get_attribute("open") is None


def test_a_long_talk_loses_its_oldest_turns_but_no_crisis(page: Any, studio: Any) -> None:
    asked: list[list[str]] = []

    def answer(route: Any) -> None:
        body = route.request.post_data
        assert len(body.encode()) < 400_000
        asked.append([turn["text"].strip("x\u2019") for turn in json.loads(body)["turns"] if turn["role"] == "user"])
        kind = "crisis" if "danger" in asked[-1] else "ok"
        route.fulfill(status=200, body=reply("\u2019" * 25_000, kind))

    page.route("**/api/chat", answer)
    page.goto(f"{studio.url}/chat")
    message = page.get_by_label("Your message")
    for text in ("one", "two", "three", "four", "danger", "five", "seven"):
        message.fill(text + "x" * 5_000)
        message.press("Enter")
        page.locator("#chat button:first-child:not([disabled])").wait_for()
    assert asked[3:] == [
        ["one", "two", "three", "four"],
        ["two", "three", "four", "danger"],
        ["two", "three", "four", "danger", "five"],
        ["two", "three", "four", "danger", "seven"],
    ]


def test_a_wrong_password_lets_nobody_in(page: Any, locked_studio: Any) -> None:
    for name in PAGES:
        page.goto(f"{locked_studio.url}/{name}")
        assert page.url.endswith("/sign-in")
    page.get_by_label("Password").fill("not the password")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    page.goto(f"{locked_studio.url}/chat")
    assert page.url.endswith("/sign-in")
    assert page.locator("nav").count() == 0
    page.get_by_label("Password").fill(locked_studio.password)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.problems.clear()  # the browser reports the answer 401 itself


def test_the_keyboard_reaches_the_page_and_both_schemes_have_contrast(page: Any, studio: Any) -> None:
    page.goto(f"{studio.url}/classify")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for selector in (".lead", "header nav a[aria-current]", ".ask button", "footer", "main h1"):
            ratio = page.evaluate(CONTRAST, selector)
            assert ratio >= 4.5, f"{selector} in {scheme}: {ratio:.2f}"
    unlabelled = "[...document.querySelectorAll('input,textarea')].filter(field => !field.labels.length).length"
    assert page.evaluate(unlabelled) == 0


def test_a_running_report_refreshes_itself(page: Any, studio: Any, runs: Path) -> None:
    page.goto(f"{studio.url}/training?run=second")
    lines = runs / "second.partial" / "metrics.jsonl"
    with lines.open("a", encoding="utf-8") as file:
        file.write('\n{"step": 777, "loss": 2.0, "learning_rate": 0.0001}\n')
    page.get_by_text("Step 777").wait_for(timeout=30_000)


# WCAG 2.2 relative luminance of an element's text over the first opaque ground behind it.
CONTRAST = """selector => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const element = document.querySelector(selector);
  let behind = element;
  let ground = numbers(getComputedStyle(behind).backgroundColor);
  while (ground.length === 4 && ground[3] === 0 && behind.parentElement) {
    behind = behind.parentElement;
    ground = numbers(getComputedStyle(behind).backgroundColor);
  }
  const [a, b] = [luminance(numbers(getComputedStyle(element).color)), luminance(ground)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""
