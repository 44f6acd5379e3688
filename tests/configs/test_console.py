import logging

from configs import console
from configs.console import Progress, progress


def test_every_item_comes_through_in_order():
    assert list(progress(range(5), description="count", unit="items", total=5)) == [0, 1, 2, 3, 4]


def test_off_a_terminal_progress_is_plain_lines_with_rate_and_time_left(caplog, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LOG_LINES", 0.0)
    with caplog.at_level(logging.INFO), Progress(description="train", unit="steps", total=10, initial=4) as bar:
        bar.advance(2, loss="2.5")
    assert "6 of 10 steps" in caplog.text
    assert "min left loss 2.5" in caplog.text


def test_a_silent_rank_says_nothing(caplog, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LOG_LINES", 0.0)
    with caplog.at_level(logging.INFO), Progress(description="t", unit="steps", enabled=False) as bar:
        bar.advance(2)
    assert caplog.text == ""
