#!/usr/bin/env python3
"""Offline stand-in for the Hugging Face Hub: model repositories behind an access gate.

    python hub_standin.py --port 0 --root DIR --users users.json

It speaks the part of the Hub's HTTP interface that huggingface_hub 2.4.0 needs to create, fill, gate, publish and
download a model; the rules are in hub_gate.py. State lives in memory, contents under --root (large ones through LFS
or, for a client that has hf_xet, Xet). Loopback and standard library only. users.json maps tokens to accounts, "role"
being that of the token: write (the default), read, or fineGrained for one without the scope for gated repositories:
    {"tok-owner": {"name": "owner"}, "tok-alice": {"name": "alice", "email": "alice@example.org", "role": "read"}}
The first line printed is the URL to use as HfApi(endpoint=...) or HF_ENDPOINT.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import secrets
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_gate import OPEN_FILES, STATUSES, Hub, Refusal, Repo, User, login, short_id

LARGE = (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".h5", ".gguf", ".msgpack")  # uploaded as LFS or Xet
MASK = "*" * 64  # shown instead of a content hash to callers without access
CLIENT_GUESSES = "/api/models/.|/.+/resolve/."  # where the client takes a bare 401 for RepoNotFound: on https only, so
# over http it is told outright, and it alone
ROUTES = (  # method, path, what the caller needs (login, the owner's write token, or to be let in by the gate), answer
    ("GET", "/_log", "", "show_log"),  # the requests served so far; not part of the Hub
    ("GET", "/api/whoami-v2", "login", "whoami"),
    ("POST", "/api/validate-yaml", "", "validate_yaml"),
    ("POST", "/api/repos/create", "login", "create"),
    ("GET", "/api/models/{repo}(?:/revision/{rev})?", "", "info"),
    ("GET", "/api/models/{repo}/tree/{rev}(?:/{path})?", "", "tree"),
    ("POST", "/api/models/{repo}/paths-info/{rev}", "", "tree"),
    ("GET", "/api/models/{repo}/auth-check", "gate", "auth_check"),
    ("GET", "/api/models/{repo}/auth-check/write", "owner", "auth_check"),
    ("PUT", "/api/models/{repo}/settings", "owner", "settings"),
    ("POST", "/api/models/{repo}/preupload/{rev}", "owner", "preupload"),
    ("POST", "/api/models/{repo}/commit/{rev}", "owner", "commit"),
    ("POST", "/api/models/{repo}/tag/{rev}", "owner", "tag"),
    ("GET", "/api/models/{repo}/xet-read-token/{rev}", "gate", "xet_token"),
    ("GET", "/api/models/{repo}/xet-write-token/{rev}", "owner", "xet_token"),
    ("POST", "/{repo}[.]git/info/lfs/objects/batch", "owner", "lfs_batch"),
    ("PUT", "/lfs/(?P<sha256>[0-9a-f]{64})", "", "lfs_put"),
    ("GET", "/cdn/(?P<ticket>[0-9a-f]+)", "", "cdn"),
    ("GET", "/api/(?P<kind>resolve-cache)/models/{repo}/{rev}/{path}", "", "download"),
    ("GET", "/{repo}/(?P<kind>resolve|raw)/{rev}/{path}", "", "download"),
    ("POST", "/{repo}/ask-access", "login", "ask_access"),
    ("POST", "/api/models/{repo}/user-access-request/cancel", "login", "withdraw"),
    (
        "GET",
        "/api/models/{{repo}}/user-access-request/(?P<status>{})".format("|".join(STATUSES)),
        "owner",
        "list_requests",
    ),
    ("POST", "/api/models/{repo}/user-access-request/(?P<action>handle|grant)", "owner", "decide"),
    ("GET", "/{repo}/user-access-report", "owner", "report"),
)
PARTS = {"{repo}": "(?P<repo>[^/]+/[^/]+?)", "{rev}": "(?P<rev>[^/]+)", "{path}": "(?P<path>.+)"}
TABLE = [
    (method, re.compile(re.sub(r"\{[a-z]+\}", lambda part: PARTS[part[0]], path)), need, answer)
    for method, path, need, answer in ROUTES
]


class Handler(BaseHTTPRequestHandler):
    """One request: the caller (`user`, None when anonymous), `query` and `body`, and the method that answers it."""

    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    hub: Hub
    swallowed = False  # the answer is lost on its way

    def answer(self) -> None:
        """Find the route, check what the caller needs, then let the route's method answer, or send a refusal."""
        url = urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.user = self.hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        path, method = unquote(url.path), self.command.replace("HEAD", "GET")
        fault = self.hub.fault(self.command, path) if self.hub.fault and "X-Watcher" not in self.headers else ""
        if fault == "cut before":
            return self.cut()
        if fault == "expired":
            self.user = None
        self.swallowed = fault == "cut after"
        self.hub.log.append(f"{self.command} {path} {self.user.name if self.user else '-'}")
        try:
            if fault == "error 500":
                raise Refusal(500, "Internal error")
            for verb, pattern, need, answer in TABLE:
                if verb == method and (found := pattern.fullmatch(path)):
                    return getattr(self, answer)(**self.checked(found.groupdict(), need))
            raise Refusal(404, "Not found")
        except Refusal as no:
            if no.status == 401 and "hf_hub/" in self.headers.get("User-Agent", "") and re.match(CLIENT_GUESSES, path):
                no.code = no.code or "RepoNotFound"
            headers = {"X-Error-Message": no.message, **({"X-Error-Code": no.code} if no.code else {})}
            headers |= {"WWW-Authenticate": 'Bearer realm="Authentication required"'} if no.status == 401 else {}
            self.send({"error": no.message} if path.startswith("/api/") else no.message.encode(), no.status, **headers)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def checked(self, parts: dict[str, Any], need: str) -> dict[str, Any]:
        """The arguments of a route's method, its repository looked up, once the caller has what the route needs."""
        if "repo" in parts:
            repo = self.hub.repos.get(parts["repo"])
            if repo is None or not repo.visible_to(self.user):  # a private repository looks missing
                raise login(self.user) and Refusal(404, "Repository not found", "RepoNotFound")
            parts["repo"] = repo
        if need == "login":
            login(self.user)
        elif need == "gate":
            repo.need_access(self.user)
        elif need == "owner":
            repo.need_owner(self.user)
        return parts

    def cut(self) -> None:
        """Close the line without an answer."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, body: Any, status: int = 200, **headers: str) -> None:
        """Send bytes as they are, a Path as a file (or the range asked for), anything else as JSON."""
        if self.hub.watcher and self.command not in ("GET", "HEAD"):
            self.hub.watcher()  # what a stranger can read after this change, before the caller hears of it
        if self.swallowed:
            return self.cut()
        kind, start = "text/plain; charset=utf-8", 0
        if isinstance(body, Path):
            size, wanted = body.stat().st_size, re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted and int(wanted[1]) < size:
                start, end = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
                headers["Content-Range"], status, size = f"bytes {start}-{end}/{size}", 206, end + 1 - start
        else:
            if not isinstance(body, bytes):
                kind, body = "application/json; charset=utf-8", json.dumps(body).encode()
            size = len(body)
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(size), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD" and isinstance(body, Path):
            with body.open("rb") as file:
                file.seek(start)
                while size > 0 and (chunk := file.read(min(size, 1 << 20))):
                    size -= self.wfile.write(chunk)
        elif self.command != "HEAD":
            self.wfile.write(body)
        return None

    def log_message(self, *_: Any) -> None:
        """Keep standard error quiet; /_log has the requests."""

    def form(self) -> dict[str, Any]:
        """The body as an object, whether it came as JSON or form-encoded."""
        if not self.body or self.body[:1] == b"{":
            return json.loads(self.body or b"{}")
        return {key: values if len(values) > 1 else values[0] for key, values in parse_qs(self.body.decode()).items()}

    def show_log(self) -> None:
        self.send(self.hub.log)

    def whoami(self) -> None:
        token = {"type": "access_token", "accessToken": {"role": self.user.role}}
        self.send({**self.user.profile(with_email=True), "name": self.user.name, "orgs": [], "auth": token})

    def validate_yaml(self) -> None:
        self.send({"errors": [], "warnings": []})

    def auth_check(self, repo: Repo) -> None:
        self.send(b"OK")

    def create(self) -> None:
        wish = self.form()
        repo_id = f"{wish.get('organization') or self.user.name}/{wish['name']}"
        if self.user.role == "read":
            raise Refusal(403, "This token cannot create repositories")
        if repo_id in self.hub.repos:
            return self.send({"error": "This model exists already", "url": f"{self.hub.url}/{repo_id}"}, 409)
        repo = self.hub.repos[repo_id] = Repo(repo_id, self.user.name, private=wish.get("visibility") == "private")
        attributes = self.hub.store.put(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        repo.add_commit("main", "initial commit", {".gitattributes": attributes})
        self.send({"url": f"{self.hub.url}/{repo_id}", "name": repo_id, "id": short_id(repo_id)})
        return None

    def settings(self, repo: Repo) -> None:
        self.send(repo.configure(self.form()))

    def info(self, repo: Repo, rev: str | None) -> None:
        commit = repo.at(rev)
        self.send(
            {
                "_id": short_id(repo.id),
                "id": repo.id,
                "modelId": repo.id,
                "author": repo.id.split("/")[0],
                "sha": commit.id,
                "lastModified": commit.date,
                "private": repo.private,
                "gated": repo.gated,
                "tags": [],
                "siblings": [{"rfilename": path} for path in sorted(commit.files)],
            }
        )

    def tree(self, repo: Repo, rev: str, path: str | None = None) -> None:
        """All files below a path: public on a gated repository, but with masked hashes for callers without access."""
        rows, shown, wanted = [], repo.open_to(self.user), self.form().get("paths")
        for name, file in sorted(repo.at(rev).files.items()):
            if name in wanted if wanted else name.startswith(path or ""):
                rows.append({"type": "file", "path": name, "oid": file.oid, "size": file.size})
                if file.sha256:
                    rows[-1]["lfs"] = {"oid": file.sha256 if shown else MASK, "size": file.size, "pointerSize": 134}
                    rows[-1]["xetHash"] = self.hub.store.xet_hash(file.sha256) if shown else MASK
        self.send(rows)

    def tag(self, repo: Repo, rev: str) -> None:
        if (name := self.form()["tag"]) in repo.refs:
            raise Refusal(409, "This reference exists already")
        repo.refs[name] = repo.refs[repo.at(rev).id]
        self.send({})

    def preupload(self, repo: Repo, rev: str) -> None:
        """Tell the client, file by file, whether content goes inside the commit or is sent ahead as a large file."""
        known = {path: file.sha256 or file.oid for path, file in repo.at(rev).files.items()}  # spares unchanged files
        self.send(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                        "oid": known.get(file["path"]),
                    }
                    for file in self.form()["files"]
                ]
            }
        )

    def commit(self, repo: Repo, rev: str) -> None:
        """Apply a commit sent as one JSON object a line: a header, then one operation each."""
        header, *operations = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        with self.hub.lock:
            if not repo.at(rev).id.startswith(header["value"].get("parentCommit", "")):
                raise Refusal(412, "The branch has moved since that parent commit")
            files = self.hub.store.apply(repo.at(rev).files, operations)
            oid = repo.add_commit(rev, header["value"]["summary"], files).id
        self.send({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo.id}/commit/{oid}"})

    def lfs_batch(self, repo: Repo) -> None:
        """Say where to send each large file; nothing to do for those already here."""
        objects = [{"oid": wish["oid"], "size": wish["size"]} for wish in self.form()["objects"]]
        for item in objects:
            if not (self.hub.store.blobs / item["oid"]).exists():
                item["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}
        self.send({"transfer": "basic", "objects": objects})

    def lfs_put(self, sha256: str) -> None:
        self.hub.store.put_large(sha256, self.body)
        self.send(b"")

    def xet_token(self, repo: Repo, rev: str) -> None:
        """Point hf_xet at a local folder instead of a content server: local:// is one of the forms it takes."""
        url, expires = f"local://{self.hub.store.cas}", int(time.time()) + 3600
        self.send(
            {"accessToken": "token", "exp": expires, "casUrl": url},
            **{"X-Xet-Cas-Url": url, "X-Xet-Access-Token": "token", "X-Xet-Token-Expiration": str(expires)},
        )

    def download(self, repo: Repo, kind: str, rev: str, path: str) -> None:
        """Serve a file: small ones as they are (through a cache when public), large ones by a link to the CDN."""
        if kind == "raw" or path not in OPEN_FILES:
            repo.need_access(self.user)
        commit = repo.at(rev)
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        file, headers = commit.files[path], {"X-Repo-Commit": commit.id}
        if kind == "resolve" and file.sha256:
            self.hub.tickets[ticket := secrets.token_hex(16)] = file.sha256
            headers |= {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
            if xet := self.hub.store.xet_hash(file.sha256):
                refresh = f"{self.hub.url}/api/models/{repo.id}/xet-read-token/{commit.id}"
                headers |= {"X-Xet-Hash": xet, "Link": f'<{refresh}>; rel="xet-auth"'}
            return self.send(b"", 302, Location=f"{self.hub.cdn_url}/cdn/{ticket}", **headers)
        headers["ETag"] = f'"{file.oid}"'
        if kind == "resolve" and not repo.gated and not repo.private:
            return self.send(b"", 307, Location=f"/api/resolve-cache/models/{repo.id}/{commit.id}/{path}", **headers)
        self.send(self.hub.store.blobs / file.oid, **headers)
        return None

    def cdn(self, ticket: str) -> None:
        """Serve a large file to whoever holds the link: no token is asked for here, on the Hub either."""
        sha256 = self.hub.tickets.get(ticket)
        if sha256 is None or not (self.hub.store.blobs / sha256).exists():
            raise Refusal(403, "Unknown link, or a content that only hf_xet can fetch")
        self.send(self.hub.store.blobs / sha256, ETag=f'"{sha256}"')

    def ask_access(self, repo: Repo) -> None:
        repo.ask(self.user, self.form())
        self.send(b"See Other", 303, Location=f"{self.hub.url}/{repo.id}")

    def withdraw(self, repo: Repo) -> None:
        repo.withdraw(self.user)
        self.send({"ok": True})

    def list_requests(self, repo: Repo, status: str) -> None:
        """One page of the requests in a state; the Link header leads to the next page."""
        limit, skip, rows = int(self.query.get("limit", 1000)), int(self.query.get("skip", 0)), repo.listed(status)
        following = f"{self.hub.url}{urlsplit(self.path).path}?limit={limit}&skip={skip + limit}"
        more = {"Link": f'<{following}>; rel="next"'} if len(rows) > skip + limit else {}
        self.send(rows[skip : skip + limit], **more)

    def decide(self, repo: Repo, action: str) -> None:
        {"handle": repo.handle, "grant": repo.grant}[action](self.user, self.form(), self.hub.users)
        self.send({})

    def report(self, repo: Repo) -> None:
        name = f"user-access-report-{repo.id.replace('/', '-')}.json"
        self.send(repo.report(), **{"Content-Disposition": f"attachment; filename={name}"})


def serve(root: Path, users: dict[str, dict[str, str]], port: int = 0) -> Hub:
    """Start the server in background threads, a second port playing the CDN, and return its Hub; see `Hub.url`."""
    hub = Hub(root, {token: User(**account) for token, account in users.items()})
    servers = [ThreadingHTTPServer(("127.0.0.1", at), type("Bound", (Handler,), {"hub": hub})) for at in (port, 0)]
    hub.url, hub.cdn_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return hub


def main() -> None:
    parser = argparse.ArgumentParser(description="Offline stand-in for the Hugging Face Hub.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--root", type=Path, required=True, help="folder for file contents")
    parser.add_argument("--users", type=Path, required=True, help="JSON file: token -> account")
    options = parser.parse_args()
    print(serve(options.root, json.loads(options.users.read_text()), options.port).url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
