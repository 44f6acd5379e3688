"""The recipes of `mindshift release audit | card | build | sign | verify | push | access`."""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.recipe import StageRecipe, require

HUB_ENDPOINT = "https://huggingface.co"


@dataclasses.dataclass(kw_only=True)
class AuditRecipe(StageRecipe):
    """Measure what a model would give away and whether it is more stigmatising than its base."""

    model_dir: Path
    """The model to audit: an encoder of `mindshift pretrain`, or a classifier of `mindshift finetune`."""
    base_model: str
    """The model it was adapted from, as its own recipe named it: folder, Hub id or package:NAME. Every excess is
    measured against it, so it must not have seen the data itself."""
    data_dir: Path
    """What it was trained on: the corpus folder (encoder) or the task folder (classifier)."""
    further_data_dirs: list[Path] = dataclasses.field(default_factory=list)
    """Other corpora that an encoder was trained on: replayed general text, that of an earlier stage or of other members
    of a soup. The audits that ask about data are made on each."""
    shadow_steps: int = 300
    """Optimizer steps of the shadow model: the base, adapted here to held-out documents. The policy wants at least
    300."""
    shadow_learning_rate: float = 1e-4
    """Learning rate of the shadow model; the policy wants 1e-5 to 1e-3."""
    documents_per_side: int = 2000
    """Members and non-members for membership inference; the policy wants at least 2,000 each."""
    max_tokens: int = 64
    """Documents are cut to this many tokens for membership inference; the policy wants at least 64. A classifier's
    texts are cut as it was trained."""
    masks_per_document: int = 3
    """Of the seven disjoint masks that together hide every token once, how many are scored for each document; the
    policy wants at least 3."""
    batch_tokens: int = 4096
    """Tokens per forward pass, padding included."""
    bootstrap_samples: int = 2000
    """Resamples for the confidence intervals; the policy wants at least 1,000."""
    stigma_dir: Path | None = Path("../shared/data/stigma")
    """Folder with honest_en_template.tsv and crows_pairs_anonymized.csv; without it those two audits are not run."""
    skip_audits: list[str] = dataclasses.field(default_factory=list)
    """Audits to leave out; the gate then refuses for want of them."""

    @property
    def data_dirs(self) -> list[Path]:
        """All that the audits ask about, `data_dir` first."""
        return [self.data_dir, *self.further_data_dirs]

    def __post_init__(self) -> None:
        twice = len({folder.resolve() for folder in self.data_dirs}) < len(self.data_dirs)
        require(not twice, "further_data_dirs", [str(folder) for folder in self.further_data_dirs], "each folder once")
        require(self.documents_per_side >= 50, "documents_per_side", self.documents_per_side, "50 or more")
        require(8 <= self.max_tokens <= 512, "max_tokens", self.max_tokens, "8 to 512")
        require(1 <= self.masks_per_document <= 7, "masks_per_document", self.masks_per_document, "1 to 7")
        require(self.batch_tokens >= self.max_tokens, "batch_tokens", self.batch_tokens, "at least max_tokens")
        require(self.bootstrap_samples >= 200, "bootstrap_samples", self.bootstrap_samples, "200 or more")
        require(self.shadow_steps >= 1, "shadow_steps", self.shadow_steps, "1 or more")
        require(0 < self.shadow_learning_rate < 1, "shadow_learning_rate", self.shadow_learning_rate, "between 0 and 1")


@dataclasses.dataclass(kw_only=True)
class CardRecipe(StageRecipe):
    """Write the model card: all that a reader must know, and nothing that is private (it is public even when gated)."""

    model_dir: Path
    """The model the card is about."""
    audit_dir: Path
    """Its audits (`mindshift release audit`)."""
    parent_dir: Path | None = None
    """The release (or downloaded repository) of the model that this one is built from: the encoder of a classifier or
    adapter, the first stage of an encoder that was trained in two. Its files are checked against its hashes."""
    parent_public_key: Path | None = None
    """Public key of that release's signature; without it the signature is not checked, and that is said."""
    name: str
    """Public name of the model, such as mindshift-base."""
    version: str
    """Version of the release, such as 1.0.0; the repository gets a tag v1.0.0."""
    summary: str
    """What the model is, in one or two sentences."""
    base_model: str
    """Hub id (OWNER/NAME) of the model it was adapted from, as the Hub shows it; with parent_dir, that release's."""
    public_bases: dict[str, str] = dataclasses.field(default_factory=dict)
    """For each base that was a folder on this machine, not a Hub id: which public model it is a copy of, and the sha256
    of its weights file as the Hub's page shows it (OWNER/NAME: sha256). The card shows both."""
    licence: str = ""
    """Licence identifier of the Hub (cc-by-nc-4.0, apache-2.0, other). Empty takes the parent's."""
    licence_name: str = ""
    """Name of the licence, if it is `other`."""
    licence_file: Path | None = None
    """Its text; published as LICENSE.txt. Needed for `other`."""
    language: str = "en"
    """Language of the texts."""
    datasets: list[str] = dataclasses.field(default_factory=list)
    """Hub ids or public names of the training data."""
    training_data: str
    """Where the training text comes from, how it was collected and on what legal and ethical ground."""
    intended_uses: list[str]
    """What it is made for."""
    forbidden_uses: list[str]
    """What it must not be used for. A derived model keeps its parent's."""
    limitations: list[str]
    """What it cannot do, and where it is known to fail."""
    social_impact: str
    """Who may be helped or harmed, and how harm is kept small."""
    authors: list[str]
    """Who made it, as in the citation."""
    year: int
    """Year of the citation."""
    contact: str
    """Public address for questions, erasure requests and incidents."""
    gate_prompt: str = ""
    """What a person agrees to when asking for access. Empty takes the parent's."""
    gate_fields: dict[str, str] = dataclasses.field(default_factory=dict)
    """Fields of the access form: label → text, country, date_picker or checkbox. Empty takes the parent's."""
    hardware: str
    """What it was trained on, such as 1 × H200."""
    hardware_watts: float
    """Electric power it drew, in watts."""
    grid_gco2_per_kwh: float
    """Carbon intensity of the electricity, in grams of CO2 equivalent per kilowatt hour."""
    region: str
    """Where it was trained (country or grid)."""
    public_key: Path | None = None
    """Public key of the signature; the card states its fingerprint."""
    override_audits: list[str] = dataclasses.field(default_factory=list)
    """Audits whose verdict is overridden. Shows in the card."""
    override_reason: str = ""
    """Why, in writing. Shows in the card."""
    override_by: str = ""
    """Who decided so. Shows in the card."""

    def __post_init__(self) -> None:
        kinds = ("text", "country", "date_picker", "checkbox")
        for label, kind in self.gate_fields.items():
            require(kind in kinds, f"gate_fields[{label}]", kind, ", ".join(kinds))
        require(self.hardware_watts > 0, "hardware_watts", self.hardware_watts, "above 0")
        require(self.grid_gco2_per_kwh >= 0, "grid_gco2_per_kwh", self.grid_gco2_per_kwh, "0 or more")
        for key, name in (("base_model", self.base_model), *(("public_bases", name) for name in self.public_bases)):
            require(name.count("/") == 1 and all(name.split("/")), key, name, "OWNER/NAME, a repository of the Hub")
        require(self.licence != "other" or self.licence_file is not None, "licence_file", None, "a file, for `other`")


@dataclasses.dataclass(kw_only=True)
class BuildRecipe(StageRecipe):
    """Put model, card, audits, bill of materials and hashes together; refuse unless the gate is passed.

    The release that the model is built from, if there is one, is the one that its card was written with.
    """

    model_dir: Path
    """The model to release."""
    audit_dir: Path
    """Its audits."""
    card_dir: Path
    """Its card."""


@dataclasses.dataclass(kw_only=True)
class SignRecipe:
    """Sign a release with an elliptic-curve key (Sigstore's model-signing, offline)."""

    release_dir: Path
    """A folder of `mindshift release build`."""
    private_key: Path
    """PEM file with the private key; a password is read from MINDSHIFT_KEY_PASSWORD."""
    create_key: bool = False
    """Make the key pair first, if the file is not there (the public one is called PRIVATE_KEY.pub)."""


@dataclasses.dataclass(kw_only=True)
class VerifyRecipe:
    """Check a release or a downloaded repository: nothing changed, missing or added, and signed by the right key."""

    folder: Path
    """A folder of `mindshift release build`, or a repository as downloaded."""
    public_key: Path | None = None
    """PEM file with the signer's public key. Without it only the hashes are checked, and that is said."""


@dataclasses.dataclass(kw_only=True)
class HubRecipe:
    """Where the repository is and who is calling; the token itself never stands in a recipe."""

    repo_id: str
    """OWNER/NAME on the Hub."""
    endpoint: str = HUB_ENDPOINT
    """The Hub's address."""
    token_variable: str = "HF_TOKEN"
    """Environment variable that holds the access token (write right)."""
    journal: Path = Path("runs/release_journal.jsonl")
    """Local log of pushes and access decisions, each line chained to the one before by its hash."""

    def __post_init__(self) -> None:
        require(self.repo_id.count("/") == 1 and all(self.repo_id.split("/")), "repo_id", self.repo_id, "OWNER/NAME")


@dataclasses.dataclass(kw_only=True)
class PushRecipe(HubRecipe):
    """Publish a release: private, one commit, manual gate, public, anonymous probe, tag."""

    release_dir: Path
    """A signed folder of `mindshift release build`."""
    public_key: Path
    """The signer's public key; an unsigned or wrongly signed release is not pushed."""
    update_existing: bool = False
    """The repository holds an earlier release of this name: replace its files by one commit."""


@dataclasses.dataclass(kw_only=True)
class AccessRecipe(HubRecipe):
    """Decide on requests for access; called as `mindshift release access ACTION RECIPE.yaml --user NAME`."""

    action: Literal["list", "accept", "reject", "revoke", "export"] = "list"
    """What to do."""
    user: str | None = None
    """Whose request (accept, reject, revoke)."""
    reason: str = ""
    """Why; needed to reject or revoke. The requester sees it, and the journal keeps it. 200 characters at most."""
    output: Path | None = None
    """CSV file to export to. It holds personal data: names, addresses, answers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.action in ("accept", "reject", "revoke"):
            require(bool(self.user), "user", self.user, f"a user name, to {self.action}")
        if self.action in ("reject", "revoke"):
            require(0 < len(self.reason) <= 200, "reason", self.reason, "1 to 200 characters")
        require(self.action != "export" or self.output is not None, "output", self.output, "a CSV file, to export")
