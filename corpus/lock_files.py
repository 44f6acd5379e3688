"""`mindshift corpus vault`: make a vault key, lock and unlock files with it, destroy it."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from configs.errors import UserError
from configs.recipe import load_recipe
from corpus.vault import SUFFIX, Vault, create_key, destroy_key

logger = logging.getLogger("corpus")


@dataclasses.dataclass(kw_only=True)
class VaultRequest:
    """Keep raw dumps encrypted at rest (age format). A build opens .age files with the recipe's vault_key."""

    create: Path | None = None
    """Make a new key in this file."""
    destroy: Path | None = None
    """Overwrite and remove this key: what it locked can never be read again."""
    key: Path | None = None
    """Key for lock and unlock."""
    lock: list[Path] = dataclasses.field(default_factory=list)
    """Replace these files by their locked forms, NAME.age."""
    unlock: list[Path] = dataclasses.field(default_factory=list)
    """Write the content of these .age files beside them."""


def main(arguments: Sequence[str], program: str) -> None:
    """Do what was asked, in the order create, lock, unlock, destroy."""
    request = load_recipe(VaultRequest, arguments, program)
    if not (request.create or request.destroy or request.lock or request.unlock):
        raise UserError("nothing to do", where=program, fix=f"See `{program} --help`.")
    if request.create:
        create_key(request.create)
        logger.info("made %s; keep a copy where the data is not", request.create)
    if request.lock or request.unlock:
        key = request.key or request.create
        if key is None:
            raise UserError("no key is named", where=program, fix="Add --key FILE.")
        vault = Vault(key)
        for path in [*request.lock, *request.unlock]:
            if not path.is_file():
                raise UserError("no such file", where=path)
        for path in request.unlock:
            if path.suffix != SUFFIX:
                raise UserError(f"not a locked file ({SUFFIX})", where=path)
        done = [vault.lock_file(path) for path in request.lock] + [vault.unlock_file(path) for path in request.unlock]
        for path in done:
            logger.info("wrote %s", path)
    if request.destroy:
        destroy_key(request.destroy)
        logger.info("destroyed %s", request.destroy)
