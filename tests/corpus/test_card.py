import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from corpus.report import funnel, render_report
from tests.corpus.conftest import make_post, pack_lines

Build = Callable[..., Path]


@pytest.fixture
def corpus(build: Build, tmp_path: Path) -> Path:
    path = tmp_path / "RS_2020.jsonl"
    contact = make_post(0, selftext="write to me at someone@example.org or call 555-867-5309 whenever you need to talk")
    copy = make_post(7, id="copy", created_utc=1_800_000_000)
    path.write_bytes(pack_lines([*(make_post(number) for number in range(1, 300)), contact, copy, b"not json"]))
    return build([path])


def test_the_report_is_one_page_that_loads_nothing_and_quotes_nobody(corpus: Path) -> None:
    page = (corpus / "report.html").read_text(encoding="utf-8")
    tags: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append((tag, dict(attrs)))  # type: ignore[method-assign]
    parser.feed(page)
    assert not [tag for tag, attributes in tags if "src" in attributes or "href" in attributes or tag == "script"]
    titles = ["From raw to kept", "Dropped, by reason", "Quarantined, by reason", "Identifiers masked", "Months"]
    assert [title for title in titles if title not in page] == []
    assert "someone@example.org" not in page
    assert page.count("<rect") > 5


def test_the_funnel_ends_with_what_was_kept(corpus: Path) -> None:
    counts = json.loads((corpus / "report.json").read_text())["counts"]
    stages = funnel(counts)
    assert list(stages.values()) == sorted(stages.values(), reverse=True)
    assert stages["read"] == 302
    assert list(stages.values())[-1] == counts["kept"] == 300


def test_an_empty_section_is_left_out() -> None:
    empty = {"quarantined", "dropped", "documents", "tokens", "identifiers", "months", "subreddits", "lengths"}
    empty |= {"contaminated_by_task", "near_duplicate_clusters", "cpu_seconds"}
    page = render_report({name: {} for name in empty} | {"read": 1, "kept": 1})
    assert "Months" not in page
    assert "From raw to kept" in page


def test_the_card_has_no_blanks(corpus: Path) -> None:
    card = (corpus / "card.md").read_text(encoding="utf-8")
    for section in ("Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance"):
        assert f"\n## {section}\n" in card
    assert "300 public Reddit posts and comments" in card
    assert "More Information Needed" not in card
    assert "documents and token shards are not encrypted, so delete them" in card  # whatever becomes of a vault key
    assert "None" not in card
    assert "writer_" not in card


def test_croissant_describes_every_table(corpus: Path) -> None:
    description = json.loads((corpus / "croissant.json").read_text())
    files = {entry["@id"]: entry for entry in description["distribution"] if entry["@type"] == "cr:FileObject"}
    manifest = json.loads((corpus / "manifest.json").read_text())["outputs"]
    assert set(files) == {name for name in manifest if name.endswith(".parquet")}
    assert all(entry["sha256"] == manifest[name]["sha256"] for name, entry in files.items())


@pytest.mark.slow
def test_mlcroissant_accepts_the_description_and_reads_the_tables(corpus: Path) -> None:
    pytest.importorskip("mlcroissant")
    program = shutil.which("mlcroissant", path=str(Path(sys.executable).parent))
    command = [str(program), "validate", "--jsonld", str(corpus / "croissant.json")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0
    assert "Done" in result.stderr
    read = (
        "import mlcroissant, sys; d = mlcroissant.Dataset(sys.argv[1]); print(sum(1 for _ in d.records('documents')))"
    )
    rows = subprocess.run(
        [sys.executable, "-c", read, "croissant.json"], capture_output=True, text=True, timeout=300, cwd=corpus
    )
    assert rows.stdout.strip() == "300"
