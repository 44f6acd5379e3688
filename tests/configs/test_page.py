"""The frame of reports: nothing from outside, nothing unescaped."""

from html.parser import HTMLParser

from configs.page import page, table

HOSTILE = "<script>alert('x')</script> & \"quoted\""


class Reader(HTMLParser):
    """Notes tags, what they point to, and the text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.text += data


def test_cells_and_titles_are_shown_as_they_are_and_nothing_is_fetched():
    reader = Reader()
    whole = page(HOSTILE, [table(["name", HOSTILE], [[HOSTILE, 1.5]])], style=".own{}")
    reader.feed(whole)
    assert "script" not in reader.tags
    assert reader.addresses == []
    assert reader.text.count(HOSTILE) == 3
    assert "1.5" in reader.text
    assert "url(" not in whole
    assert "@import" not in whole
    assert whole.count("<style>") == 1
    assert ".own{}" in whole
    assert 'name="viewport"' in whole
    assert "prefers-color-scheme:dark" in whole
