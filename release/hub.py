"""Publish a release so that no stranger can fetch its weights at any moment, whatever fails.

Order: private → one commit → manual gate, read back → public, read back → anonymous probe must be denied → tag.
The gate is on before the repository is visible; any failure after the first change makes it private again. An
interrupted push is finished by the same command: what is there is compared with the release, byte by byte.

Facts about the Hub, seen live, stand in `tests/release/hub_gate_rules.json`: visibility and gate are separate
settings; `upload_folder` may split into several commits; README.md and LICENSE stay public on a gated repository.
"""

import contextlib
import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo, RepoFile

from configs.errors import UserError
from configs.manifest import sha256_file
from release.inheritance import RELEASE_NAME
from release.repository import ADDED_BY_HUB

PUBLIC_WHEN_GATED = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
ATTEMPTS = 5
WAIT_SECONDS = 1.0
NETWORK_ERRORS = (httpx2.HTTPError, OSError, RuntimeError)
"""What the client raises when the line is cut; hf_xet raises RuntimeError."""
PUSH_MEANINGS = {
    409: "this name is taken by a repository that the token may not see",
    412: "somebody changed the repository meanwhile",
}
log = logging.getLogger("release push")


def connect(endpoint: str, token: str) -> HfApi:
    """Return a client for the owner; nothing is sent yet."""
    return HfApi(endpoint=endpoint, token=token, library_name="mindshift")


class Publication:
    """One push of a repository folder.

    Args:
        api: the owner's client.
        repo_id: OWNER/NAME.
        folder: the repository folder, already verified.
        tag: of this version, such as v1.0.0.
        update_existing: the repository may hold an earlier release of the same name.
    """

    def __init__(self, api: HfApi, repo_id: str, folder: Path, *, tag: str, update_existing: bool = False) -> None:
        self.api, self.repo_id, self.tag, self.update_existing = api, repo_id, tag, update_existing
        self.anonymous = HfApi(endpoint=api.endpoint, token=False, library_name="mindshift")
        self.files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        self._changed = False

    def run(self) -> str:
        """Publish and return the commit id.

        Raises:
            UserError: what failed; the repository is private again, or, if even that failed, what to do at once.
        """
        try:
            with readable_errors(self.repo_id, PUSH_MEANINGS):
                check_token(self.api)
                existing = self._find()
                self._refuse_other_content(existing)
                self._refuse_released_version(existing)
                commit = self._fill(existing)
                self._set_gate(commit)
                self._open(commit)
                self.probe(commit)
                self._mark(commit)
        except BaseException as error:
            if self._changed:
                self._withdraw(error)
            raise
        return commit

    def _find(self) -> ModelInfo | None:
        try:
            info = self.api.model_info(self.repo_id)
        except RepositoryNotFoundError as error:
            if error.response.status_code != 404:  # a bare 401 is reported as a missing repository
                raise
            return None
        self.api.auth_check(self.repo_id, write=True)
        return info

    def _refuse_other_content(self, existing: ModelInfo | None) -> None:
        """Refuse a repository that is public without a manual gate, or that holds something else."""
        if existing is None:
            return
        if not existing.private and existing.gated != "manual":
            gate = "without a gate" if not existing.gated else f"behind a gate that is {existing.gated!r}, not manual"
            raise UserError(
                f"this name is already public {gate}",
                where=self.repo_id,
                fix="What was open may have been copied: choose another name, or make it private by hand and look.",
            )
        remote, ours = self._contents()
        if not remote or remote == ours:
            return
        earlier_release = RELEASE_NAME in remote
        if not (self.update_existing and earlier_release):
            raise UserError(
                f"the repository exists with other content ({len(remote)} files)",
                where=self.repo_id,
                fix="Choose another name"
                + (", or pass --update_existing true to replace that release." if earlier_release else "."),
            )

    def _refuse_released_version(self, existing: ModelInfo | None) -> None:
        """Refuse a new commit for a tag that stands: the tag would fail last, when the commit is open."""
        if existing is None or self._tagged() is None:
            return
        for revision in (self.tag, "main"):
            there, ours = self._contents(revision)
            if there != ours:
                raise UserError(
                    f"{self.tag} is released already, and {revision} holds other files than this release",
                    where=self.repo_id,
                    fix="Raise `version` in the card's recipe, then write the card, build and sign anew.",
                )

    def _fill(self, existing: ModelInfo | None) -> str:
        """Create the repository private and give it the files in one commit; returns the commit id."""
        if existing is None:
            self._changed = True  # from here on it may exist, even if the answer is lost
            self.api.create_repo(self.repo_id, private=True)
            log.info("created %s, private", self.repo_id)
        head = self.api.model_info(self.repo_id)
        if existing is None and not head.private:
            raise UserError("was created public in spite of our wish", where=self.repo_id)
        remote, ours = self._contents()
        if remote == ours:
            log.info("the files are there already")
            return str(head.sha)
        operations: list[Any] = [CommitOperationAdd(name, str(path)) for name, path in self.files.items()]
        operations += [CommitOperationDelete(name) for name in sorted(remote.keys() - ours.keys())]
        self._changed = True
        commit = self.api.create_commit(
            self.repo_id, operations, commit_message=f"Release {self.tag}", parent_commit=head.sha
        )
        remote, ours = self._contents()
        if remote != ours:
            raise UserError("the repository does not hold what was sent", where=self.repo_id)
        log.info("sent %d files in one commit", len(self.files))
        return str(commit.oid)

    def _set_gate(self, commit: str) -> None:
        self._changed = True
        self.api.update_repo_settings(self.repo_id, gated="manual")
        self._read_back("the manual gate", lambda info: info.gated == "manual" and info.sha == commit)

    def _open(self, commit: str) -> None:
        # Both in one request: should the gate have been taken off meanwhile, it is set before the door opens.
        self.api.update_repo_settings(self.repo_id, gated="manual", visibility="public")
        self._read_back(
            "being public behind a manual gate",
            lambda info: info.gated == "manual" and not info.private and info.sha == commit,
        )

    def probe(self, commit: str) -> None:
        """Try to fetch every file as a stranger: all but the card and the licence must be denied by the gate.

        Raises:
            UserError: something else than a denial came back.
        """
        for name in self.files:
            if name in PUBLIC_WHEN_GATED:
                continue
            for revision in ("main", commit):
                self._probe_file(name, revision)
        log.info("a stranger is denied all %d closed files", len(self.files))

    def _probe_file(self, name: str, revision: str) -> None:
        def refuse(what: str) -> None:
            raise UserError(f"a stranger {what} {name} at {revision[:12]}", where=self.repo_id)

        raw = f"{self.api.endpoint}/{self.repo_id}/raw/{revision}/{name}"
        answer = _again(lambda: get_session().get(raw, follow_redirects=False))
        if answer.status_code != 401:
            refuse(f"got status {answer.status_code} for the raw file")
        with tempfile.TemporaryDirectory() as cache:  # an empty cache: a warm one would hide the answer
            try:
                _again(lambda: self.anonymous.hf_hub_download(self.repo_id, name, revision=revision, cache_dir=cache))
            except GatedRepoError:
                return
            except HfHubHTTPError as error:
                refuse(f"was denied, but not by the gate ({type(error).__name__}),")
        refuse("could fetch")

    def _mark(self, commit: str) -> None:
        try:
            self.api.create_tag(self.repo_id, tag=self.tag, revision=commit)
        except HfHubHTTPError as error:
            if error.response.status_code != 409 or self._tagged() != commit:
                raise
        log.info("tagged %s", self.tag)

    def _tagged(self) -> str | None:
        try:
            return self.api.model_info(self.repo_id, revision=self.tag).sha
        except RevisionNotFoundError:
            return None

    def _withdraw(self, cause: BaseException) -> None:
        """Make the repository private again, and say loudly if that could not be confirmed."""
        log.warning("failed; making %s private again", self.repo_id)
        for attempt in range(ATTEMPTS):
            try:
                self.api.update_repo_settings(self.repo_id, visibility="private")
                if self.api.model_info(self.repo_id).private:
                    log.warning("%s is private", self.repo_id)
                    return
            except (HfHubHTTPError, *NETWORK_ERRORS) as error:
                if isinstance(error, RepositoryNotFoundError) and error.response.status_code == 404:
                    log.warning("%s does not exist; nothing is readable", self.repo_id)
                    return
                log.warning("attempt %d to make it private failed", attempt + 1)
            time.sleep(WAIT_SECONDS)
        raise UserError(
            f"the push failed ({cause}) AND the repository could not be confirmed private",
            where=self.repo_id,
            fix=f"At once: hf repos settings {self.repo_id} --visibility private. Its weights were never opened "
            "without the gate, but the card may be readable.",
        ) from cause

    def _read_back(self, what: str, holds: Callable[[ModelInfo], bool]) -> None:
        for _ in range(ATTEMPTS):
            if holds(self.api.model_info(self.repo_id)):
                return
            time.sleep(WAIT_SECONDS)
        raise UserError(f"the Hub does not confirm {what}", where=self.repo_id)

    def _contents(self, revision: str = "main") -> tuple[dict[str, str], dict[str, str]]:
        """Return path → content id, of the repository at a revision and of our folder.

        The id is the sha256 for files that the repository keeps as large ones, and the git id for the others.
        """
        listed = self.api.list_repo_tree(self.repo_id, recursive=True, revision=revision)
        rows = {row.path: row for row in listed if isinstance(row, RepoFile) and row.path not in ADDED_BY_HUB}
        remote = {path: row.lfs.sha256 if row.lfs else row.blob_id for path, row in rows.items()}
        large = {path for path, row in rows.items() if row.lfs}
        ours = {name: sha256_file(path) if name in large else git_id(path) for name, path in self.files.items()}
        return remote, ours


def check_token(api: HfApi) -> str:
    """Return the account's name.

    Raises:
        UserError: the token is wrong, expired, or may only read.
    """
    try:
        account = api.whoami()
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise UserError(
            "the access token is wrong or expired", where=api.endpoint, fix="Make a new one with write right."
        ) from error
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise UserError("the access token may only read", where=api.endpoint, fix="Make one with write right.")
    return str(account["name"])


def git_id(path: Path) -> str:
    """Return the git blob id of a file."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _again(request: Callable[[], Any]) -> Any:
    """Send a probe again after a cut line; a lost answer is neither a denial nor a leak."""
    for _ in range(ATTEMPTS - 1):
        try:
            return request()
        except (LocalEntryNotFoundError, httpx2.TransportError):
            time.sleep(WAIT_SECONDS)
    return request()


@contextlib.contextmanager
def readable_errors(repo_id: str, meanings: dict[int, str] | None = None) -> Iterator[None]:
    """Turn what the client raises into one line and a next step; neither ever carries the token.

    Args:
        repo_id: the repository, for the message.
        meanings: status code → what it means in this place, beside the usual ones.
    """
    known = {
        401: "the access token is wrong or expired",
        403: "the access token has no right to write here",
        **(meanings or {}),
    }
    fix = "Mend it and run the same command again; it goes on where it stopped."
    try:
        yield
    except NETWORK_ERRORS as error:
        answer = error if isinstance(error, HfHubHTTPError) else error.__cause__  # uploads wrap the Hub's answer
        if isinstance(answer, HfHubHTTPError):
            status = answer.response.status_code
            raise UserError(known.get(status, f"the Hub answered {status}"), where=repo_id, fix=fix) from error
        raise UserError(f"the connection failed ({type(error).__name__})", where=repo_id, fix=fix) from error
