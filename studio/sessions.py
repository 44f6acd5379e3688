"""Who is looking: sessions in memory, a password where one is set, and requests only from the page itself.

A session is a random token in a cookie that scripts cannot read. Wrong passwords are answered slowly and all alike. A
request that changes or asks something must carry a header that no foreign page can send unasked, and the Host it was
sent to must be ours, so that neither a foreign page nor a rebound DNS name (CWE-350) reaches a local studio.
"""

import dataclasses
import hmac
import secrets
import time
from typing import Any

from starlette.requests import HTTPConnection

COOKIE = "mindshift_studio"
OWN_REQUEST_HEADER = "x-mindshift-studio"
SECONDS_AFTER_WRONG_PASSWORD = 0.5
MAX_SESSIONS = 500
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


@dataclasses.dataclass
class Session:
    """What is known of one browser."""

    token: str
    is_in: bool = False
    has_acknowledged: bool = False
    seen_at: float = dataclasses.field(default_factory=time.monotonic)


class Sessions:
    """All sessions of this process; they end with it.

    Args:
        password: what must be given first; None lets everybody in who reaches the page.
    """

    def __init__(self, password: str | None) -> None:
        self._password = password
        self._sessions: dict[str, Session] = {}

    @property
    def is_open(self) -> bool:
        """Whether no password is asked for."""
        return self._password is None

    def of(self, request: HTTPConnection) -> Session | None:
        """Return the session of a request's cookie, if it has one."""
        session = self._sessions.get(request.cookies.get(COOKIE, ""))
        if session is not None:
            session.seen_at = time.monotonic()
        return session

    def start(self) -> Session:
        """Return a new session; without a password it is let in at once."""
        if len(self._sessions) >= MAX_SESSIONS:
            oldest = min(self._sessions.values(), key=lambda session: session.seen_at)
            del self._sessions[oldest.token]
        session = Session(secrets.token_urlsafe(32), is_in=self._password is None)
        self._sessions[session.token] = session
        return session

    def sign_in(self, session: Session, password: str) -> bool:
        """Let a session in if the password is right; a wrong one takes its time."""
        right = self._password is None or hmac.compare_digest(password.encode(), self._password.encode())
        if not right:
            time.sleep(SECONDS_AFTER_WRONG_PASSWORD)
        session.is_in = right
        return right

    def renew(self, session: Session) -> Session:
        """Give a session that was just let in a token nobody could have planted."""
        self._sessions.pop(session.token, None)
        session.token = secrets.token_urlsafe(32)
        self._sessions[session.token] = session
        return session

    def end(self, session: Session) -> None:
        """Forget a session."""
        self._sessions.pop(session.token, None)


def cookie_arguments(session: Session) -> dict[str, Any]:
    """Return the arguments of `set_cookie` for a session."""
    return {"key": COOKIE, "value": session.token, "httponly": True, "samesite": "strict", "path": "/"}


def is_own_host(request: HTTPConnection, *, is_local: bool) -> bool:
    """Return whether a request was sent to a name of this machine; a studio for others answers to any name."""
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return not is_local or name in LOCAL_HOSTS
