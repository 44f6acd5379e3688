"""The dataset card and the Croissant description of a corpus, filled from its counts and recipe.

The card answers the questions of Datasheets for Datasets (Gebru et al. 2021); Croissant is MLCommons' JSON-LD
vocabulary for data sets (1.1). A blank would be a lie of omission, so every field is written from what the build
knows, or says that the builder must answer it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.manifest import sha256_file
from corpus.config import CorpusRecipe
from corpus.shards import DOCUMENTS_SUFFIX, SPLITS, split_folder

NAME = "mindshift corpus"
CARD_NAME, CROISSANT_NAME = "card.md", "croissant.json"
COLUMNS = {
    "id": ("sc:Text", "Reddit's full name of the post, kept so that deleted posts can be erased here too."),
    "subreddit": ("sc:Text", "The community it was posted to; empty if unknown."),
    "month": ("sc:Text", "The month it was posted in, such as 2021-05; empty if unknown."),
    "author_hash": ("sc:Text", "Keyed hash of the author; empty if unknown."),
    "start": ("sc:Integer", "Where its tokens begin in the shard."),
    "length": ("sc:Integer", "How many tokens it has."),
    "title_length": ("sc:Integer", "How many of them are the title's."),
}
CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn", "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/", "recordSet": "cr:recordSet", "references": "cr:references",
    "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace", "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip


def write_card(folder: Path, recipe: CorpusRecipe, counts: dict[str, Any], built_at: str) -> None:
    """Write `card.md` and `croissant.json` into a corpus that has everything else."""
    (folder / CARD_NAME).write_text(render_card(recipe, counts, built_at), encoding="utf-8")
    paths = [path for split in SPLITS for path in split_folder(folder, split).glob(f"*{DOCUMENTS_SUFFIX}")]
    tables = {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
    (folder / CROISSANT_NAME).write_text(render_croissant(tables, counts["kept"], built_at), encoding="utf-8")


def correct_card(card: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return the card with other sizes; what the builder has written into it stays."""
    for figures in (_headline, _sizes):
        card = card.replace(figures(before), figures(after))
    return card


def render_card(recipe: CorpusRecipe, counts: dict[str, Any], built_at: str) -> str:
    """Return the dataset card, Markdown with the Hub's metadata on top."""
    dropped = counts["dropped"]
    months = [month for month in counts["months"] if month != "unknown"]
    identifiers = sum(counts["identifiers"].values())
    reasons = "\n".join(f"| `{reason}` | {count:,} |" for reason, count in dropped.items() if count)
    kinds = ", ".join(f"{kind.lower().replace('_', ' ')} {count:,}" for kind, count in counts["identifiers"].items())
    languages = recipe.languages or ["mul"]
    tasks = ", ".join(counts["contaminated_by_task"]) or "none"
    period = f"{months[0]} to {months[-1]}" if months else "unknown"
    undated = counts["months"].get("unknown", 0)
    held_out = (
        f"the latest {recipe.held_out_months} months"
        if recipe.held_out_months
        else f"{recipe.held_out_share:.1%} of the authors (of the posts, where the author is unknown), by hash"
    )
    return f"""---
language: [{", ".join(languages)}]
license: other
task_categories: [fill-mask]
tags: [mental-health, reddit, de-identified, not-for-diagnosis]
---

# {NAME}

{_headline(counts)}, de-identified and de-duplicated, built {built_at[:10]}.
**De-identified is not anonymous. Nothing in it is a diagnosis.** Publish no quotes; identify no author.

## Motivation

- *Purpose*: continued pretraining of masked language models on mental-health language.
- *Who built it, who paid*: whoever ran the build; the manifest names code and versions, not people.

## Composition

- *Instances*: posts and comments, as text with placeholders and as token ids of one tokenizer.

| split | documents | tokens |
|---|---:|---:|
{_sizes(counts)}

- *Communities*: {len(counts["subreddits"]):,} subreddits. *Period*: {period}; {undated:,} posts without a date.
- *Sample or all*: what the input dumps hold, less what the rules drop (below). Who posts on Reddit is no sample of
  any population: younger, more male, more American, and those who seek help in writing.
- *Labels*: none. *Missing*: scores, replies, media, flair, exact times.
- *Splits*: {held_out}; no author is on both sides.
- *Duplicates*: removed, exact and near. *Tasks kept out*: {tasks}.
- *Sensitive*: yes, throughout: health, self-harm, abuse, sexuality, substance use. It may distress readers.
- *Identifies people*: {identifiers:,} identifiers were masked ({kinds or "none found"}). Some remain: no method finds
  all, and a life story can identify without a name. Authors appear as keyed hashes.

## Collection

- *How*: from {len(recipe.inputs)} input pattern(s) of public dumps, named in the manifest with their hashes.
- *Consent*: authors were not asked. They wrote in public, under names of their choosing, to each other.
  Deleted, removed and restored posts are dropped; posts of deleted accounts: {recipe.deleted_accounts}.
- *Ethical review*: the builder's to obtain and to name here before sharing.

## Preprocessing

{counts["read"]:,} records read, {sum(counts["quarantined"].values()):,} quarantined as malformed.

| dropped for | posts |
|---|---:|
{reasons}

Texts are otherwise unchanged: emoji, elongation, casing and profanity stay. Raw data are not part of the corpus.

## Uses

- *Meant for*: adapting language models for research on mental-health language, behind a gate.
- *Not for*: diagnosis, risk scoring of people, decisions about anyone, finding or contacting authors, advertising,
  insurance, employment, policing.

## Distribution

- *Licence*: the words belong to those who wrote them; Reddit's terms apply. Do not redistribute the text.

## Maintenance

- *Erasure*: `mindshift corpus resync` asks Reddit what is gone and erases it (recommended every 48 hours);
  `mindshift corpus erase` takes ids or an author's hash. The manifest keeps a signed record of each erasure.
- *Older versions*: must be erased or destroyed too. A destroyed vault key makes locked dumps and intermediate files
  unreadable, not this corpus: its documents and token shards are not encrypted, so delete them.
"""


def _headline(counts: dict[str, Any]) -> str:
    return f"{counts['kept']:,} public Reddit posts and comments"


def _sizes(counts: dict[str, Any]) -> str:
    documents, tokens = counts["documents"], counts["tokens"]
    return "\n".join(f"| {split} | {documents[split]:,} | {tokens.get(split, 0):,} |" for split in documents)


def render_croissant(tables: Mapping[str, str], kept: int, built_at: str) -> str:
    """Return the Croissant description: the tables of all shards and their columns.

    Args:
        tables: name in the corpus → sha256.
        kept: documents in all of them.
        built_at: when the corpus was built, in ISO format.
    """
    files = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "encodingFormat": "application/x-parquet",
            "sha256": digest,
        }
        for name, digest in sorted(tables.items())
    ]
    every = {
        "@type": "cr:FileSet",
        "@id": "tables",
        "name": "tables",
        "description": "One row a document, for every shard of both splits.",
        "containedIn": [{"@id": file["@id"]} for file in files],
        "encodingFormat": "application/x-parquet",
        "includes": "tokens/*/*.documents.parquet",
    }
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"documents/{column}",
            "name": column,
            "description": description,
            "dataType": kind,
            "source": {"fileSet": {"@id": "tables"}, "extract": {"column": column}},
        }
        for column, (kind, description) in COLUMNS.items()
    ]
    description = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": NAME,
        "description": f"{kept:,} de-identified, de-duplicated public Reddit posts and comments. "
        "De-identified is not anonymous; nothing in it is a diagnosis.",
        "license": "https://www.redditinc.com/policies/user-agreement",
        "url": "https://www.reddit.com",
        "version": "1.0.0",
        "datePublished": built_at[:10],
        "creator": {"@type": "Organization", "name": "the builder named beside the data"},
        "citeAs": "Cite the software, mindshift, and the dumps named in the manifest.",
        "isLiveDataset": False,
        "rai:personalSensitiveInformation": "Health; de-identified, not anonymous.",
        "rai:dataUseCases": "Adapting language models for research. Not for diagnosis or decisions about people.",
        "distribution": [*files, every],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "documents", "name": "documents", "field": fields}],
    }
    return json.dumps(description, indent=2, ensure_ascii=False) + "\n"
