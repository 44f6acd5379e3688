"""Decide who gets in: list, accept, reject, revoke and export the requests for a gated repository.

Every decision is in the journal before it is sent and again when it is done, so none is without a trace. Deciding
twice is an error on the Hub, so the lists are read first. Revoking stops new downloads only: copies that were
made stay where they are.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.hf_api import AccessRequest

from configs.errors import UserError
from configs.run_folder import write_atomically
from release.config import AccessRecipe
from release.hub import check_token, readable_errors
from release.journal import append_entry, read_journal

STATUSES = ("pending", "accepted", "rejected")
FROM_STATUSES = {"accept": ("pending", "rejected"), "reject": ("pending",), "revoke": ("accepted",)}
COLUMNS = ("status", "username", "fullname", "email", "timestamp", "fields")
MEANINGS = {403: "the access token has no right to decide here", 404: "no such repository, or no such request any more"}
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def list_requests(api: HfApi, repo_id: str) -> list[AccessRequest]:
    """Return all requests that are pending, accepted or rejected, oldest first within each."""
    with readable_errors(repo_id, MEANINGS):
        if api.model_info(repo_id).gated is False:
            raise UserError("this repository has no gate", where=repo_id)
        lists = (
            api.list_pending_access_requests,
            api.list_accepted_access_requests,
            api.list_rejected_access_requests,
        )
        return [request for requests in lists for request in requests(repo_id)]


def decide(api: HfApi, recipe: AccessRecipe) -> str:
    """Accept, reject or revoke one user's request; returns a line to print.

    Raises:
        UserError: no such request, or it is in another state already.
    """
    read_journal(recipe.journal)  # refuse to write behind a journal that was tampered with
    user = str(recipe.user)
    with readable_errors(recipe.repo_id, MEANINGS):
        by = check_token(api)
    found = [request for request in list_requests(api, recipe.repo_id) if request.username == user]
    if not found:
        raise UserError(f"{user} has not asked for access", where=recipe.repo_id)
    if found[0].status not in FROM_STATUSES[recipe.action]:
        raise UserError(f"the request of {user} is {found[0].status} already", where=recipe.repo_id)
    entry = {"repo_id": recipe.repo_id, "action": recipe.action, "user": user, "by": by, "reason": recipe.reason}
    append_entry(recipe.journal, **entry, state="asked")
    try:
        with readable_errors(recipe.repo_id, MEANINGS):
            if recipe.action == "accept":
                api.accept_access_request(recipe.repo_id, user)
            else:
                api.reject_access_request(recipe.repo_id, user, rejection_reason=recipe.reason)
    except UserError as error:
        append_entry(recipe.journal, **entry, state="failed", error=error.what)
        raise
    append_entry(recipe.journal, **entry, state="done")
    done = {"accept": "has access", "reject": "was refused", "revoke": "has no access any more; copies made stay"}
    return f"{user} {done[recipe.action]}"


def export_requests(api: HfApi, recipe: AccessRecipe) -> Path:
    """Write all requests to a CSV file that only its owner can read; it holds personal data."""
    requests = list_requests(api, recipe.repo_id)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for request in requests:
        writer.writerow([_cell(value) for value in request_row(request).values()])
    path = Path(str(recipe.output))
    write_atomically(path, buffer.getvalue())
    path.chmod(0o600)
    append_entry(recipe.journal, repo_id=recipe.repo_id, action="export", requests=len(requests), state="done")
    return path


def request_row(request: AccessRequest) -> dict[str, Any]:
    """Return a request as one row; the Hub may leave out name and address."""
    return {
        "status": request.status,
        "username": request.username,
        "fullname": request.fullname,
        "email": request.email or "",
        "timestamp": request.timestamp.isoformat(timespec="seconds"),
        "fields": json.dumps(request.fields, ensure_ascii=False) if request.fields else "",
    }


def _cell(value: Any) -> str:
    """Return a cell that a spreadsheet will not run as a formula: the answers were typed by strangers."""
    text = str(value if value is not None else "")
    return "'" + text if text.startswith(FORMULA_STARTS) else text
