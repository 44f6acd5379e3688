"""Model repositories behind an access gate, as on the Hugging Face Hub, in plain Python without any HTTP.

Who sees a repository, who passes its gate and how access requests move between their states (the cases are listed in
hub_gate_rules.json); and the commits and contents behind the gate. hub_standin.py puts it behind the Hub's interface.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

OPEN_FILES = {"README.md", "LICENSE", "LICENSE.md", "LICENSE.txt"}  # /resolve/ serves these in spite of the gate
STATUSES = ("pending", "accepted", "rejected", "reset")
REASONS = {
    None: "you are not in the authorized list",
    "pending": "your request is awaiting a review",
    "rejected": "your request has been rejected",
    "reset": "your request has been reset, you may ask again",
}
_latest = 0  # milliseconds


def now() -> str:
    """The time in the Hub's format, to the millisecond; no two calls get the same one."""
    global _latest
    _latest = max(_latest + 1, time.time_ns() // 1_000_000)
    return datetime.fromtimestamp(_latest / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def short_id(text: str) -> str:
    """A stable id of 24 hexadecimal digits, the form the Hub gives to users, repositories and requests."""
    return hashlib.sha1(text.encode()).hexdigest()[:24]


class Refusal(Exception):
    """An error answer; the client chooses its exception class from `code`, sent as X-Error-Code."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class User:
    """An account seen through one of its tokens; anonymous callers are None."""

    name: str
    role: str = "write"  # of the token: write, read, or fineGrained without the scope for gated repositories
    fullname: str = ""
    email: str | None = None

    def profile(self, with_email: bool) -> dict[str, Any]:
        known = {
            "_id": short_id(self.name),
            "user": self.name,
            "fullname": self.fullname or self.name,
            "type": "user",
            "isPro": False,
            "avatarUrl": f"/avatars/{short_id(self.name)}.svg",
            "verifiedOrgNames": [],
        }
        return known | ({"email": self.email} if with_email and self.email else {})


def login(user: User | None) -> User:
    if user is None:
        raise Refusal(401, "Invalid username or password.")
    return user


@dataclass
class Request:
    """A user's request for access; a repository holds at most one per user."""

    id: str
    user: User
    status: str
    timestamp: str
    fields: dict[str, Any] = field(default_factory=dict)
    asked: bool = True  # False when the owner granted access unasked: the e-mail address then stays private
    reviewed_at: str | None = None
    granted_by: User | None = None

    def move(self, status: str, owner: User) -> None:
        """Record a decision; going back to pending forgets the previous one, and the reason is never stored."""
        self.status, self.reviewed_at = status, None if status == "pending" else now()
        self.granted_by = owner if status == "accepted" else None

    def row(self) -> dict[str, Any]:
        """The request as the owner's lists show it."""
        extra = {
            "fields": self.fields,
            "reviewedAt": self.reviewed_at,
            "grantedBy": self.granted_by and self.granted_by.profile(with_email=False),
        }
        return {
            "requestId": self.id,
            "user": self.user.profile(with_email=self.asked),
            "timestamp": self.timestamp,
            "status": self.status,
            **{key: value for key, value in extra.items() if value},
        }


class File(NamedTuple):
    """A file of a commit; `sha256` is set for large files, whose `oid` is that of their LFS pointer."""

    oid: str
    size: int
    sha256: str | None = None


class Commit(NamedTuple):
    id: str
    title: str
    date: str
    files: dict[str, File]


@dataclass
class Repo:
    """A repository: visibility, gate, access requests and history. `gated` is False, "auto" or "manual"."""

    id: str
    owner: str
    private: bool = False
    gated: bool | str = False
    requests: dict[str, Request] = field(default_factory=dict)
    refs: dict[str, list[Commit]] = field(default_factory=dict)  # branch, tag or commit id: its history, newest last

    # ---- who may do what --------------------------------------------------------------------------------------------
    def visible_to(self, user: User | None) -> bool:
        return not self.private or (user is not None and user.name == self.owner)

    def open_to(self, user: User | None) -> bool:
        """Whether the user may read the files (of a repository visible to them)."""
        if not self.gated or (user and user.name == self.owner):
            return True
        request = self.requests.get(user.name) if user and user.role != "fineGrained" else None
        return request is not None and request.status == "accepted"

    def need_access(self, user: User | None) -> None:
        """Refuse callers whom the gate stops; this comes before looking for the revision or the file."""
        if self.open_to(user):
            return
        subject = f"Access to model {self.id} is restricted"
        if user is None:
            raise Refusal(401, f"{subject}. Please log in.", "GatedRepo")
        if user.role == "fineGrained":
            raise Refusal(403, "Please enable access to public gated repositories in your token settings")
        request = self.requests.get(user.name)
        raise Refusal(403, f"{subject}: {REASONS[request.status if request else None]}.", "GatedRepo")

    def need_owner(self, user: User | None) -> User:
        """Refuse everybody but the owner with a token that may write."""
        if login(user).name != self.owner or user.role == "read":
            raise Refusal(403, "This takes a token with write access to the repository")
        return user

    # ---- the owner's side -------------------------------------------------------------------------------------------
    def configure(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Change gate and visibility in one step. Requests are kept as they are; the answer echoes what was sent."""
        gated = wish.get("gated", self.gated)
        visibility = wish.get("visibility", "private" if self.private else "public")
        if not (gated is False or gated in ("auto", "manual")) or visibility not in ("public", "private"):
            raise Refusal(400, "Invalid value for gated or visibility")
        self.gated, self.private = gated, visibility == "private"
        return {key: wish[key] for key in ("gated", "visibility") if key in wish}

    def listed(self, status: str) -> list[dict[str, Any]]:
        """The requests in one state, oldest first; answers even while the repository is not gated."""
        rows = [request.row() for request in self.requests.values() if request.status == status]
        return sorted(rows, key=lambda row: row["timestamp"])

    def report(self) -> list[dict[str, Any]]:
        """Every request in every state, as the owner can download it."""
        return [
            {
                "fullname": row["user"]["fullname"],
                "user": row["user"]["user"],
                "email": row["user"].get("email"),
                "time": row["timestamp"],
                "status": row["status"],
            }
            for row in (request.row() for request in self.requests.values())
        ]

    def find(self, wish: dict[str, Any], users: dict[str, User]) -> User:
        """The user a decision is about, named by exactly one of user, userId and requestId."""
        given = {(key, wish[key]) for key in ("user", "userId", "requestId") if wish.get(key)}
        if len(given) != 1:
            raise Refusal(400, "Name the user in exactly one way")
        for user in users.values():
            ids = {("user", user.name), ("userId", short_id(user.name)), ("requestId", short_id(self.id + user.name))}
            if given & ids:
                return user
        raise Refusal(404, "User not found")

    def check_decision(self, wish: dict[str, Any]) -> None:
        if not self.gated:
            raise Refusal(400, f"model {self.id} is not gated", "RepoNotGated")
        if wish.get("status") not in STATUSES:
            raise Refusal(400, "Invalid option at status")
        if any(len(wish.get(reason) or "") > 200 for reason in ("rejectionReason", "resetReason")):
            raise Refusal(400, "A reason takes 200 characters at most")

    def handle(self, owner: User, wish: dict[str, Any], users: dict[str, User]) -> None:
        """Move a request to another state; moving it to the state it is in counts as not found."""
        self.check_decision(wish)
        request = self.requests.get(self.find(wish, users).name)
        if request is None or request.status == wish["status"]:
            raise Refusal(404, "No access request found that is in another state")
        request.move(wish["status"], owner)

    def grant(self, owner: User, wish: dict[str, Any], users: dict[str, User]) -> None:
        """Give access, whether or not the user asked for it."""
        self.check_decision({"status": "accepted"})
        user = self.find(wish, users)
        request = self.requests.setdefault(
            user.name, Request(short_id(self.id + user.name), user, "granted", now(), asked=False)
        )
        if request.status == "accepted":
            raise Refusal(400, "This user already has access")
        request.move("accepted", owner)

    # ---- the requester's side ---------------------------------------------------------------------------------------
    def ask(self, user: User, answers: dict[str, Any]) -> None:
        """Ask for access, given at once in automatic mode. No effect on a request that exists, unless it was reset."""
        known = self.requests.get(user.name)
        if self.gated and (known is None or known.status == "reset"):
            status = "accepted" if self.gated == "auto" else "pending"
            self.requests[user.name] = Request(short_id(self.id + user.name), user, status, now(), answers)

    def withdraw(self, user: User) -> None:
        """Take back one's own request, which must be pending; it is forgotten altogether."""
        request = self.requests.get(user.name)
        if request is None or request.status != "pending":
            raise Refusal(404, "No pending access request found to withdraw")
        del self.requests[user.name]

    # ---- history ----------------------------------------------------------------------------------------------------
    def at(self, rev: str | None) -> Commit:
        if (rev or "main") not in self.refs:
            raise Refusal(404, "Revision not found", "RevisionNotFound")
        return self.refs[rev or "main"][-1]

    def add_commit(self, branch: str, title: str, files: dict[str, File]) -> Commit:
        oid = hashlib.sha1(f"{self.id} {(date := now())} {sorted(files.items())}".encode()).hexdigest()
        self.refs[branch] = self.refs[oid] = [*self.refs.get(branch, []), Commit(oid, title, date, files)]
        return self.refs[oid][-1]


class Store:
    """File contents in a folder: small ones by git id, large ones by sha256 (LFS) or left to hf_xet's own store."""

    def __init__(self, root: Path) -> None:
        self.blobs, self.cas = root.resolve() / "blobs", root.resolve() / "cas"
        self.blobs.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> File:
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        (self.blobs / oid).write_bytes(data)
        return File(oid, len(data))

    def put_large(self, sha256: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Refusal(400, "The content does not match its sha256")
        (self.blobs / sha256).write_bytes(data)

    def apply(self, files: dict[str, File], operations: list[dict[str, Any]]) -> dict[str, File]:
        """The files after the operations of a commit, given as the client sends them."""
        files = dict(files)
        for kind, value in ((operation["key"], operation["value"]) for operation in operations):
            path, sha256 = value["path"], value.get("oid", "")
            if kind == "file":
                files[path] = self.put(base64.b64decode(value["content"]))
            elif kind == "lfsFile" and ((self.blobs / sha256).exists() or self.xet_hash(sha256)):
                pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {value['size']}\n"
                files[path] = File(self.put(pointer.encode()).oid, value["size"], sha256)
            elif kind in ("deletedFile", "deletedFolder"):
                gone = path.rstrip("/") + "/"
                files = {name: file for name, file in files.items() if not f"{name}/".startswith(gone)}
            else:
                raise Refusal(400, f"{path}: its content has not been uploaded")
        return files

    def xet_hash(self, sha256: str) -> str | None:
        """The Xet hash of a content, looked up in the shards that hf_xet registered in its local store."""
        for shard in self.cas.rglob("shards/*.mdb"):
            data, at = shard.read_bytes(), 48
            while data[at : at + 32] not in (b"\xff" * 32, b""):  # one block per file, closed by an all-ones block
                flags, entries = struct.unpack_from("<II", data, at + 32)
                end = at + 48 * (1 + entries * (2 if flags >> 31 else 1))
                xet, sha = ("%016x" * 4 % struct.unpack_from("<4Q", data, place) for place in (at, end))
                if flags >> 30 & 1 and sha == sha256:
                    return xet
                at = end + 48 * (flags >> 30 & 1)
        return None


class Hub:
    """Everything a Hub remembers, to be shared by the requests it serves."""

    def __init__(self, root: Path, tokens: dict[str, User]) -> None:
        self.store, self.tokens, self.users = Store(root), tokens, {user.name: user for user in tokens.values()}
        self.repos: dict[str, Repo] = {}
        self.tickets: dict[str, str] = {}  # download links given out: ticket -> sha256
        self.log: list[str] = []
        self.lock, self.url, self.cdn_url = threading.RLock(), "", ""
        self.fault: Callable[[str, str], str] | None = None  # tests: what goes wrong with this request, if anything
        self.watcher: Callable[[], None] | None = None  # tests: looks from outside after each request
