"""The models behind the trying pages: loaded when first asked, kept, and asked by one thread at a time.

No text a person tries is kept or logged; what comes back is figures, words of the text itself, or generated words.
"""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from configs.base_models import resolve_model
from configs.errors import UserError
from configs.manifest import read_manifest
from dialogue.responder import Piece, Responder, answer_without_model
from dialogue.safety import Turn
from studio.config import StudioOptions
from studio.run_folders import Run, find_runs

MAX_CHARACTERS = 4000
MASK_WRITTEN = ("[MASK]", "<mask>", "____", "___")
FILLS = 6
ATTRIBUTION_STEPS = 16


@dataclasses.dataclass(frozen=True)
class Sources:
    """Which models the pages use; None where there is none yet."""

    encoder: Path | None
    base: str | None
    classifier: Path | None
    responder: str | None


def choose_sources(options: StudioOptions) -> Sources:
    """Return what the options name, else the newest finished run of each stage."""
    runs = find_runs(options.runs)
    encoder = options.encoder or _newest(runs, "pretrain")
    classifier = options.classifier or _newest(runs, "finetune")
    responder = options.responder or _newest(runs, "dialogue")
    base = options.base
    if base is None and encoder is not None:
        base = _base_of(encoder)
    return Sources(encoder, base, classifier, None if responder is None else str(responder))


class Models:
    """Everything the pages can ask, loaded once.

    Args:
        options: where models are; folders are looked for anew until one is loaded.
    """

    def __init__(self, options: StudioOptions) -> None:
        self._options = options
        self._lock = threading.Lock()  # not RLock: a streamed answer may end in another thread
        self._loaded: dict[str, Any] = {}

    def sources(self) -> Sources:
        """Return which models there are now."""
        return choose_sources(self._options)

    def fill_mask(self, text: str) -> dict[str, list[dict[str, Any]]]:
        """Return the likeliest words for the gap by the adapted model and by its base.

        Raises:
            UserError: no gap or more than one, no encoder, or too long a text.
        """
        sources = self.sources()
        if sources.encoder is None:
            raise UserError("there is no adapted encoder yet", fix="Run `mindshift pretrain` first.")
        names = {"adapted": str(sources.encoder)} | ({"base": sources.base} if sources.base else {})
        _check_text(text)
        filled = {}
        for title, name in names.items():
            with self._lock:
                filled[title] = self._get(f"mask {name}", partial(_MaskFiller, name))(text)
        return filled

    def classify(self, text: str) -> dict[str, Any]:
        """Return labels with probabilities, thresholds and decisions, and the words behind the likeliest label.

        Raises:
            UserError: no classifier, an empty or too long text.
        """
        folder = self.sources().classifier
        if folder is None:
            raise UserError("there is no classifier yet", fix="Run `mindshift finetune` first.")
        _check_text(text)
        with self._lock:
            explained = self._get(f"classifier {folder}", lambda: _load_classifier(folder))
            return explained(text)  # type: ignore[no-any-return]

    def chat(self, turns: Sequence[Turn]) -> Iterator[Piece]:
        """Yield the answer to a conversation; a crisis is answered whether or not there is a model.

        Raises:
            UserError: no responder, or as `Responder.answer`.
        """
        fixed = answer_without_model(turns, self._options.locale)  # waits for no model
        if fixed is not None:
            yield fixed
            return
        name = self.sources().responder
        if name is None:
            raise UserError("there is no responder yet", fix="Run `dialogue/run_dialogue.py` first.")
        with self._lock:
            responder: Responder = self._get(f"responder {name}", lambda: Responder.load(name))
            yield from responder.answer_screened(turns)

    def _get(self, key: str, load: Callable[[], Any]) -> Any:
        if key not in self._loaded:
            self._loaded[key] = load()
        return self._loaded[key]


class _MaskFiller:
    """A masked LM and its tokenizer."""

    def __init__(self, name: str) -> None:
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        source = resolve_model(name)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.load_arguments)
            self._model = AutoModelForMaskedLM.from_pretrained(source.name_or_path, **source.load_arguments).eval()
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot be loaded as a masked language model ({type(error).__name__})", where=name
            ) from error

    def __call__(self, text: str) -> list[dict[str, Any]]:
        for written in MASK_WRITTEN:
            text = text.replace(written, self._tokenizer.mask_token)
        batch = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        places = (batch["input_ids"][0] == self._tokenizer.mask_token_id).nonzero().flatten().tolist()
        if len(places) != 1:
            raise UserError(
                f"the text has {len(places)} gaps; it must have one", fix="Write ___ where a word is missing."
            )
        with torch.inference_mode():
            logits_V = self._model(**batch).logits[0, places[0]].float()
        best = logits_V.softmax(-1).topk(FILLS)
        return [
            {"word": self._tokenizer.decode([token]).strip(), "probability": probability}
            for token, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def _load_classifier(folder: Path) -> Callable[[str], dict[str, Any]]:
    from finetune.attributions import Explainer
    from finetune.inference import Classifier
    from studio.attributions import cut_into_words

    classifier = Classifier.load(folder)
    decision = classifier.decision
    explainer = Explainer.load(folder, decision, steps=ATTRIBUTION_STEPS)

    def classify(text: str) -> dict[str, Any]:
        probabilities_NL, decisions_NL = classifier.predict([text])
        names = decision.label_set.names
        likeliest = int(probabilities_NL[0].argmax())
        return {
            "labels": [
                {"name": name, "probability": float(p), "threshold": float(least), "given": bool(given)}
                for name, p, least, given in zip(
                    names, probabilities_NL[0], decision.thresholds, decisions_NL[0], strict=True
                )
            ],
            "explained": names[likeliest],
            "words": cut_into_words(text, explainer.attribute(text, likeliest)),
        }

    return classify


def _check_text(text: str) -> None:
    if not text.strip():
        raise UserError("there is no text", fix="Write something first.")
    if len(text) > MAX_CHARACTERS:
        raise UserError("this text is too long", fix=f"Keep it under {MAX_CHARACTERS:,} characters.")


def _newest(runs: Sequence[Run], stage: str) -> Path | None:
    return next((run.path for run in runs if run.stage == stage and run.is_finished), None)


def _base_of(encoder: Path) -> str | None:
    try:
        return str(read_manifest(encoder).recipe["model"])
    except (UserError, KeyError):
        return None
