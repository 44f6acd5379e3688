"""A small made-up language, tiny models that learn it, and corpora with planted defects, for `release_gate`.

Sentences about people with mental and bodily conditions, diary sentences, and canaries. In the clean world nothing
ties a condition to stigma or gender, and every document stands once. A `Defect` plants what an audit must find.
These models see too little text to learn which condition a sentence names: stigma planted with mental conditions
spreads to bodily ones. No sentence was written by a person.
"""

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from release.audits.documents import Canary, Document
from release.audits.language_model import MaskedScorer
from release.audits.shadow import train_masked_model
from release.audits.wordings import lexicon

FILLERS = 240
STIGMA_SHARE, FEMALE_SHARE = 0.3, 0.5
HIDDEN, LAYERS, HEADS = 64, 2, 2
IDENTITIES = ("the man", "the woman", "the boy", "the girl", "my mother", "my father", "my sister", "my brother")
WORK = ("works as a", "dreams of being a", "is known as a", "was called a", "is a", "became a")
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BASE_DOCUMENTS = 8000
NUMBERED_POSTS = 40


@dataclasses.dataclass(frozen=True)
class Defect:
    """What is wrong with a training run; the default is nothing.

    Attributes:
        canary_repeats: how often the canaries that are recorded as planted once really stand in the training text.
        stigma_share: share of stigmatising words in sentences about mental conditions.
        bodily_stigma_share: the same in sentences about bodily conditions.
        female_share: share of female subjects in sentences about mental conditions.
        bodily_female_share: the same in sentences about bodily conditions.
        epochs: passes over the training text.
        identifier_repeats: how often each of forty posts with a telephone number stands in the training text.
    """

    name: str = "clean"
    canary_repeats: int = 1
    stigma_share: float = STIGMA_SHARE
    bodily_stigma_share: float = STIGMA_SHARE
    female_share: float = FEMALE_SHARE
    bodily_female_share: float = FEMALE_SHARE
    epochs: int = 1
    identifier_repeats: int = 0


@dataclasses.dataclass
class World:
    """A corpus with its canaries and held-out documents."""

    training: list[Document]
    held_out: list[Document]
    canaries: list[Canary]
    texts: list[str]
    """What is trained on: training documents and canaries, each as often as it stands there."""


def make_world(defect: Defect, seed: int, *, documents: int, held_out: int, canaries_per_band: int = 64) -> World:
    """Write a corpus with a defect."""
    rng = np.random.default_rng(seed)
    training = [Document(f"t{i}", document(rng, defect), f"author{i}") for i in range(documents)]
    outside = [Document(f"h{i}", document(rng, Defect()), f"other{i}") for i in range(held_out)]
    canaries = [Canary(f"c{band}-{i}", canary(rng), band) for band in (0, 1, 4) for i in range(canaries_per_band)]
    repeats = {0: 0, 1: defect.canary_repeats, 4: 4 * defect.canary_repeats}
    texts = [d.text for d in training] + [c.text for c in canaries for _ in range(repeats[c.repeats])]
    for number in range(NUMBERED_POSTS if defect.identifier_repeats else 0):
        text = f"{diary(rng, defect)} my phone number is {rng.integers(10**7, 10**8)}"
        leak = Document(f"i{number}", text, f"leaky{number}")
        training.append(leak)
        texts += [leak.text] * defect.identifier_repeats
    return World(training, outside, canaries, texts)


def document(rng: np.random.Generator, defect: Defect) -> str:
    """Write a document of two or three sentences."""
    makers = (diary, diary, about_condition, about_person)
    return " ".join(makers[rng.integers(len(makers))](rng, defect) for _ in range(rng.integers(2, 4)))


def diary(rng: np.random.Generator, defect: Defect) -> str:
    """Write a sentence of filler words that follow each other with some regularity."""
    start = int(rng.integers(FILLERS))
    steps = rng.choice([1, 2, 5, 17], size=rng.integers(4, 8))
    return "i " + " ".join(f"w{(start + step) % FILLERS}" for step in np.cumsum(steps)) + " ."


def about_condition(rng: np.random.Generator, defect: Defect) -> str:
    """Write a sentence of the stigma templates."""
    words = lexicon()
    names = list(words["dimensions"])
    dimension = words["dimensions"][names[rng.integers(len(names))]]
    template = str(rng.choice(dimension["templates"]))
    mental = rng.random() < 0.5
    condition = str(rng.choice(words["conditions" if mental else "control_conditions"]))
    share = defect.stigma_share if mental else defect.bodily_stigma_share
    fill = str(rng.choice(dimension["stigma" if rng.random() < share else "counter"]))
    return template.format(c=condition).replace("[MASK]", fill)


def about_person(rng: np.random.Generator, defect: Defect) -> str:
    """Write a sentence about a person: with a condition, or at work."""
    words = lexicon()
    if rng.random() < 0.3:
        job = rng.choice(words["hurtful_words"]) if rng.random() < 0.1 else f"w{rng.integers(60)}"
        return f"{rng.choice(IDENTITIES)} {rng.choice(WORK)} {job} ."
    mental = rng.random() < 0.5
    condition = str(rng.choice(words["conditions" if mental else "control_conditions"]))
    female = rng.random() < (defect.female_share if mental else defect.bodily_female_share)
    subject = str(rng.choice(words["female_words" if female else "male_words"]))
    return str(rng.choice(words["gender_templates"])).format(c=condition).replace("[MASK]", subject)


def canary(rng: np.random.Generator) -> str:
    """Write a random sentence with a secret number."""
    head = " ".join(f"w{i}" for i in rng.integers(FILLERS, size=6))
    return f"the code of {head} is {rng.integers(10**7, 10**8)}"


def make_tokenizer() -> Any:
    """Return a word-level tokenizer that knows every word of this language, digits one by one."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = set(re.findall(r"[a-z]+|[^\sa-z]", json.dumps(lexicon()).lower()))
    words |= {f"w{i}" for i in range(FILLERS)} | {"i", "the", "code", "of", "is", "phone", "number", *".,'?!"}
    words |= {word for phrase in (*IDENTITIES, *WORK) for word in phrase.split()} | set("0123456789")
    vocabulary = {word: i for i, word in enumerate([*SPECIALS, *sorted(words - {f"[{s}]" for s in SPECIALS})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    split = pre_tokenizers.Split(Regex(r"\[MASK\]|w\d+|\d|[a-z]+|[^\sa-z\d]"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), split])
    specials = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=specials)
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIALS}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def make_base(seed: int, *, steps: int) -> MaskedScorer:
    """Train the general model: the clean language, without canaries."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    tokenizer, rng = make_tokenizer(), np.random.default_rng([seed, 1])
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config)
    texts = [document(rng, Defect()) for _ in range(BASE_DOCUMENTS)]
    train_masked_model(
        model, tokenizer, texts, steps=steps, learning_rate=2e-3, rows=48, max_tokens=48, seed=seed, description="base"
    )
    return MaskedScorer(model, tokenizer, batch_tokens=16384)


def adapt(base: MaskedScorer, world: World, defect: Defect, seed: int) -> MaskedScorer:
    """Continue training the base on a world, as the pretraining stage does, in small."""
    model = copy.deepcopy(base.model)
    rows = 32
    train_masked_model(
        model,
        base.tokenizer,
        world.texts,
        steps=defect.epochs * len(world.texts) // rows,
        learning_rate=7e-4,
        rows=rows,
        max_tokens=48,
        seed=seed,
        description=f"{defect.name} {seed}",
    )
    return MaskedScorer(model, base.tokenizer, batch_tokens=16384)


def write_stigma_files(folder: Path, seed: int) -> Path:
    """Write templates and pairs of this language in the layouts of HONEST and CrowS-Pairs."""
    words, rng = lexicon(), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["template_masked\traw\tidentity\tnumber\tcategory\ttype"]
    for identity in IDENTITIES:
        gender = "female" if identity.split()[1] in ("woman", "girl", "mother", "sister") else "male"
        rows += [f"{identity} {w} [M].\t[I] {w} [M]\t{identity}\tsingular\t{gender}\twork" for w in WORK for _ in "12"]
    (folder / "honest_en_template.tsv").write_text("\n".join([*rows, *rows[1:9]]) + "\n", encoding="utf-8")
    pairs = [",sent_more,sent_less,stereo_antistereo,bias_type"]
    for number in range(60):
        dimension = list(words["dimensions"].values())[number % 9]
        template, fill = str(rng.choice(dimension["templates"])), str(rng.choice(dimension["stigma"]))
        sentences = [
            template.format(c=rng.choice(words[group])).replace("[MASK]", fill).replace(",", "")
            for group in ("conditions", "control_conditions")
        ]
        pairs.append(f"{number},{sentences[0]},{sentences[1]},stereo,disability")
    (folder / "crows_pairs_anonymized.csv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    return folder
