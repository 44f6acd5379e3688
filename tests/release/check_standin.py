#!/usr/bin/env python3
"""Check hub_standin.py against hub_gate_rules.json with the unmodified huggingface_hub client and plain HTTP.

    python check_standin.py [--only ID ...] [--verbose]

Every case gets a repository of its own: made private and filled by the owner, gated, published, the access request
moved to the state the case needs, then gate and visibility set. The case's request, its after-effects and its client
call are compared with what the file expects, and the last line says how many of the rules hold. Cases that need Xet
run in a second process, since the client reads HF_HUB_DISABLE_XET once; they are skipped where hf_xet is missing.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import http.client
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

HERE = Path(__file__).resolve().parent
SCRATCH = Path(tempfile.mkdtemp(prefix="hub-check-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
XET = "--xet" in sys.argv  # the second process, for the cases that need Xet
os.environ.update(
    HF_HUB_DISABLE_XET="0" if XET else "1",
    HF_HOME=str(SCRATCH / "home"),
    NO_PROXY="127.0.0.1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_IMPLICIT_TOKEN="1",
    HF_HUB_VERBOSITY="critical",
    PYTHONDONTWRITEBYTECODE="1",
)

from huggingface_hub import CommitOperationAdd, HfApi  # noqa: E402  (after the environment is set)

USERS = {
    "tok-owner": {"name": "owner"},
    "tok-owner-read": {"name": "owner", "role": "read"},
    "tok-alice": {"name": "alice", "email": "alice@example.org"},
    "tok-bob": {"name": "bob"},
    "tok-alice-fine": {"name": "alice", "role": "fineGrained"},
}
WEIGHTS = random.Random(0).randbytes(200_000)
FILES = {
    "README.md": b"---\nlicense: other\n---\n# Card\n",
    "LICENSE.txt": b"Terms\n",
    "USE_POLICY.md": b"Policy\n",
    "config.json": b"{}\n",
    "docs/README.md": b"Inner\n",
    "model.safetensors": WEIGHTS,
}
ROLES = {"anonymous": "anonymous", "owner": "owner"}  # who calls; everybody else is alice
REQUESTS = "/api/models/{repo}/user-access-request/"


class Mismatch(Exception):
    """A rule that does not hold."""


def expect(condition: Any, message: str) -> None:
    if not condition:
        raise Mismatch(message)


class Checker:
    """One case at a time against a running stand-in."""

    def __init__(self, url: str) -> None:
        self.url, self.host = url, urlsplit(url).netloc

    def api(self, who: str) -> HfApi:
        return HfApi(endpoint=self.url, token=False if who == "anonymous" else f"tok-{who}")

    def http(self, who: str, method: str, path: str, json_body: Any = None, form: Any = None) -> tuple[int, Any, bytes]:
        """A plain request, redirects not followed: status, headers, body."""
        target = urlsplit(path if path.startswith("http") else self.url + path)
        headers = {} if who == "anonymous" or path.startswith("http") else {"Authorization": f"Bearer tok-{who}"}
        body = None if json_body is None else json.dumps(json_body).encode()
        if form is not None:
            body, headers["Content-Type"] = urlencode(form).encode(), "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(target.netloc, timeout=20)
        connection.request(method, target.path + (f"?{target.query}" if target.query else ""), body, headers)
        answer = connection.getresponse()
        result = answer.status, answer.headers, answer.read()
        connection.close()
        return result

    def step(self, who: str, method: str, path: str, json_body: Any = None) -> None:
        status = self.http(who, method, path.replace("{repo}", self.repo), json_body)[0]
        expect(status < 400, f"setting up: {method} {path} answered {status}")

    def rows(self, status: str) -> list[dict[str, Any]]:
        return json.loads(self.http("owner", "GET", f"{REQUESTS}{status}".replace("{repo}", self.repo))[2])

    def alice(self) -> dict[str, Any]:
        """Alice's row, whatever its state."""
        found = [
            row
            for status in ("pending", "accepted", "rejected", "reset")
            for row in self.rows(status)
            if row["user"]["user"] == "alice"
        ]
        return found[0] if found else {}

    def handle(self, status: str) -> None:
        self.step("owner", "POST", f"{REQUESTS}handle", {"user": "alice", "status": status})

    # ---- setting up -------------------------------------------------------------------------------------------------
    def prepare(self, case: dict[str, Any]) -> None:
        """Build the repository of a case and bring it to the state the case starts from."""
        owner, self.repo, self.link = self.api("owner"), f"owner/{case['id']}", ""
        owner.create_repo(self.repo, private=True)
        files = [CommitOperationAdd(path, content) for path, content in FILES.items()]
        self.commit = owner.create_commit(self.repo, files, commit_message="Release").oid
        owner.update_repo_settings(self.repo, gated="manual")
        owner.update_repo_settings(self.repo, visibility="public")
        role = case["role"]
        state = case.get("requester") or {
            "pending": "pending",
            "accepted": "accepted",
            "rejected": "rejected",
            "revoked": "accepted",
        }.get(role)
        if state:
            self.step("alice", "POST", "/{repo}/ask-access", {})
        if state in ("accepted", "rejected"):
            self.handle(state)
        self.cache = Path(tempfile.mkdtemp(dir=SCRATCH))
        if case.get("client", {}).get("cache") == "warm":
            self.api("alice").snapshot_download(self.repo, cache_dir=self.cache)
        if "{link}" in case.get("request", {}).get("path", ""):
            self.link = self.http("alice", "HEAD", f"/{self.repo}/resolve/main/model.safetensors")[1]["Location"]
        if role == "revoked":
            self.handle(case["revoked_by"])
        gate = {"public": False, "private": False, "public+gated_auto": "auto"}.get(case["repo_state"], "manual")
        visibility = "private" if case["repo_state"].startswith("private") else "public"
        self.step("owner", "PUT", "/api/models/{repo}/settings", {"gated": gate, "visibility": visibility})
        for given in case.get("given", []):
            self.step(given["as"], given["method"], given["path"], given.get("json"))
        if changed := case.get("client", {}).get("owner_changes"):
            owner.create_commit(self.repo, [CommitOperationAdd(changed, b"changed")], commit_message="Change")

    def fill(self, text: str) -> str:
        """Put the values of this run into a text of the rules file."""
        values = {
            "repo": self.repo,
            "link": self.link,
            "weights_size": str(len(WEIGHTS)),
            "commit": self.commit,
            "weights_sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        }
        if "{request_id}" in text:
            values["request_id"] = self.alice()["requestId"]
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    # ---- comparing --------------------------------------------------------------------------------------------------
    def compare(self, wanted: dict[str, Any], status: int, headers: Any, body: bytes) -> None:
        """Compare an answer with an `expect` or `after` entry."""
        expect(status == wanted["status"], f"status {status}, expected {wanted['status']}")
        code = headers["X-Error-Code"]
        expect(code == wanted.get("x_error_code"), f"X-Error-Code {code}, expected {wanted.get('x_error_code')}")
        message = headers["X-Error-Message"] or ""
        expect(wanted.get("message_contains", "") in message, f"message {message!r}")
        for name, value in wanted.get("headers", {}).items():
            expect(headers[name] and (value == "*" or self.fill(value) == headers[name]), f"{name}: {headers[name]}")
        location = headers["Location"] or ""
        expect(self.fill(wanted.get("location_contains", "")) in location, f"Location {location}")
        expect(wanted.get("body_contains", "") in body.decode(errors="replace"), f"body {body[:80]!r}")
        if wanted.get("body") is not None:
            given = json.loads(body)
            expect({key: given.get(key) for key in wanted["body"]} == wanted["body"], f"body {given}")
        if "masked" in wanted:
            large = [row for row in json.loads(body) if "lfs" in row]
            masked = {row["lfs"]["oid"] == "*" * 64 for row in large}
            expect(masked == {wanted["masked"]}, f"hashes {large}")
        if "row_keys" in wanted:
            row = json.loads(body)[0]
            expect(set(wanted["row_keys"]) <= set(row), f"row keys {sorted(row)}")

    def compare_rows(self, wanted: dict[str, Any], before: dict[str, Any]) -> None:
        """Compare alice's row after the request with the one before it."""
        row = self.alice()
        if "timestamp" in wanted:
            same = row["timestamp"] == before["timestamp"]
            expect(same == (wanted["timestamp"] == "same"), f"timestamp {before['timestamp']} -> {row['timestamp']}")
        expect(not set(wanted.get("no_row_keys", [])) & set(row), f"row keys {sorted(row)}")
        expect(row.get("fields", {}).items() >= wanted.get("fields", {}).items(), f"fields {row.get('fields')}")

    def run_client(self, role: str, wanted: dict[str, Any]) -> None:
        """Make the client call of a case and compare what it returns or raises."""
        who, call = wanted.get("as") or ROLES.get(role, "alice"), wanted["call"]
        args = wanted.get("args", {})
        args = {key: self.fill(value) if isinstance(value, str) else value for key, value in args.items()}
        if call.endswith("_download"):
            args["cache_dir"] = self.cache if wanted.get("cache") == "warm" else tempfile.mkdtemp(dir=SCRATCH)
        if call == "create_commit":
            args |= {"operations": [CommitOperationAdd("new.txt", b"new")], "commit_message": "New"}
        if call == "upload_folder":
            args["folder_path"] = folder = Path(tempfile.mkdtemp(dir=SCRATCH))
            for number in range(wanted["files"]):
                (folder / f"{number}.txt").write_text(str(number))
        seen, error, result = len(self.log()), None, None
        try:
            result = (
                getattr(self.api(who), call)(self.repo, **args)
                if call != "upload_folder"
                else self.api(who).upload_folder(repo_id=self.repo, **args)
            )
            result = list(result) if call.startswith("list_") else result
        except Exception as raised:
            error = raised
        sent = self.log()[seen + 1 :]  # the first new entry is the reading of the log itself
        name = type(error).__name__ if error else None
        expect(name == wanted.get("raises"), f"{call} raised {error!r}" if error else f"{call} returned {result!r}")
        if "cause" in wanted:
            expect(type(error.__cause__).__name__ == wanted["cause"], f"{call}: cause {error.__cause__!r}")
        if "raised_status" in wanted:
            status = error.response.status_code
            expect(status == wanted["raised_status"], f"{call}: status {status}")
        if "returns" in wanted:
            expect(result == wanted["returns"], f"{call} returned {result!r}")
        if "returns_file" in wanted:
            path = Path(result) / wanted["returns_file"] if call == "snapshot_download" else Path(result)
            expect(path.read_bytes() == FILES[wanted["returns_file"]], f"{path.name} differs")
        if "returns_attrs" in wanted:
            found = {key: getattr(result, key) for key in wanted["returns_attrs"]}
            expect(found == wanted["returns_attrs"], f"{call}: {found}")
        if "returns_users" in wanted:
            expect([row.username for row in result] == wanted["returns_users"], f"{call}: {result}")
        if "requests" in wanted:
            expect(len(sent) == wanted["requests"], f"{call} sent {sent}")
        if "commits" in wanted:
            commits = [line for line in sent if line.startswith(f"POST /api/models/{self.repo}/commit/")]
            expect(len(commits) == wanted["commits"], f"{call} made {len(commits)} commits")

    def log(self) -> list[str]:
        return json.loads(self.http("anonymous", "GET", "/_log")[2])

    def run(self, case: dict[str, Any]) -> None:
        """Raise Mismatch unless the rule holds."""
        self.prepare(case)
        before, wanted = self.alice(), case["expect"]
        if request := case.get("request"):
            who = case.get("token") or ROLES.get(case["role"], "alice")
            body = request.get("json"), request.get("form")
            self.compare(wanted, *self.http(who, request["method"], self.fill(request["path"]), *body))
            self.compare_rows(wanted, before)
        if client := case.get("client"):
            self.run_client(case["role"], client)
        for probe in case.get("after", []):
            if "list" in probe:
                users = [row["user"]["user"] for row in self.rows(probe["list"])]
                expect(users == probe["users"], f"{probe['list']}: {users}, expected {probe['users']}")
            else:
                answer = self.http(probe["as"], probe["method"], self.fill(probe["path"]), probe.get("json"))
                try:
                    self.compare(probe, *answer)
                except Mismatch as no:
                    raise Mismatch(f"afterwards, {probe['as']} {probe['method']} {probe['path']}: {no}") from None


def needs_xet(case: dict[str, Any]) -> bool:
    return case.get("client", {}).get("transport") == "xet"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="ID", help="check these cases only")
    parser.add_argument("--verbose", action="store_true", help="name the rules that hold, too")
    parser.add_argument("--xet", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = json.loads((HERE / "hub_gate_rules.json").read_text())["cases"]
    chosen = [case for case in cases if not options.only or case["id"] in options.only]
    root, users = SCRATCH / "root", SCRATCH / "users.json"
    users.write_text(json.dumps(USERS))
    command = [sys.executable, HERE / "hub_standin.py", "--port", "0", "--root", root, "--users", users]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    held, failed = Counter(), 0
    try:
        checker = Checker(server.stdout.readline().strip())
        for case in (case for case in chosen if needs_xet(case) == XET):
            try:
                checker.run(case)
            except Exception as no:  # a Mismatch, or an answer too odd to be compared
                failed += 1
                print(f"FAILS {case['id']} ({case['confidence']}): {no if isinstance(no, Mismatch) else repr(no)}")
            else:
                held[case["confidence"]] += 1
                if options.verbose:
                    print(f"holds {case['id']}")
    finally:
        server.terminate()
    if XET:
        print(json.dumps([held, failed]))
        return 0
    rest = [case["id"] for case in chosen if needs_xet(case)]
    if rest and importlib.util.find_spec("hf_xet"):
        again = [sys.executable, __file__, "--xet", "--only", *rest, *(["--verbose"] if options.verbose else [])]
        second = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True)
        *lines, totals = second.stdout.splitlines()
        print(*lines, sep="\n", end="\n" if lines else "")
        held, failed = held + Counter(json.loads(totals)[0]), failed + json.loads(totals)[1]
    elif rest:
        print(f"skipped for want of hf_xet: {', '.join(rest)}")
    print(
        f"{held.total()} of {len(chosen)} rules hold "
        f"({', '.join(f'{number} {confidence}' for confidence, number in held.items())}; {failed} fail)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
