"""One interface over the backends: texts in, spans out.

`rules` are the exact recognizers alone. Backends are stateless after construction, so one may be shared by
threads; a pickled one is its name, so a worker process builds its own.
"""

from collections.abc import Sequence

from configs.errors import UserError
from corpus.deidentify.recognizers import find_exact
from corpus.deidentify.spans import PROTECTED, Span, resolve

BACKENDS = ("default", "rules")


class Deidentifier:
    """Finds personal information.

    Args:
        backend: one of `BACKENDS`.

    Raises:
        UserError: an unknown backend.
    """

    def __init__(self, backend: str = "default") -> None:
        if backend not in BACKENDS:
            raise UserError(f"unknown de-identification backend {backend!r}; known: {', '.join(BACKENDS)}")
        self.backend = backend

    def __reduce__(self) -> tuple[type["Deidentifier"], tuple[str]]:
        """Pickle as the backend's name."""
        return Deidentifier, (self.backend,)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return, for each text, its spans: sorted, non-overlapping, as character offsets."""
        return [self._find(text) for text in texts]

    def _find(self, text: str) -> list[Span]:
        protected = [match.span() for match in PROTECTED.finditer(text)]
        return resolve(find_exact(text), protected)
