"""Who is looking: sessions in memory, a password where one is set, and requests only from the page itself.

A session is a random token in a cookie that scripts cannot read; only who has been let in gets one, so that strangers
cannot crowd others out. Wrong passwords are answered slowly and all alike. A request that changes or asks something
must come from our own page (a header that no foreign page can send unasked, or the Origin), and the Host it was sent to
must be ours, so that neither a foreign page nor a rebound DNS name (CWE-350) reaches a local studio.
"""

import dataclasses
import hmac
import secrets
import time
from typing import Any

from starlette.requests import HTTPConnection

from studio.config import StudioOptions

COOKIE = "mindshift_studio"
OWN_REQUEST_HEADER = "x-mindshift-studio"
SECONDS_AFTER_WRONG_PASSWORD = 0.5
MAX_SESSIONS = 500
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


@dataclasses.dataclass
class Session:
    """What is known of one browser that has been let in."""

    token: str
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
        """Return the session of a request's cookie, if it is one of ours."""
        session = self._sessions.get(request.cookies.get(COOKIE, ""))
        if session is not None:
            session.seen_at = time.monotonic()
        return session

    def start(self) -> Session:
        """Return a new session, under a token that nobody could have planted."""
        if len(self._sessions) >= MAX_SESSIONS:
            oldest = min(self._sessions.values(), key=lambda session: session.seen_at)
            del self._sessions[oldest.token]
        session = Session(secrets.token_urlsafe(32))
        self._sessions[session.token] = session
        return session

    def is_right(self, password: str) -> bool:
        """Return whether this is the password; a wrong one takes its time."""
        right = self._password is None or hmac.compare_digest(password.encode(), self._password.encode())
        if not right:
            time.sleep(SECONDS_AFTER_WRONG_PASSWORD)
        return right

    def end(self, session: Session) -> None:
        """Forget a session."""
        self._sessions.pop(session.token, None)


def cookie_arguments(session: Session, options: StudioOptions) -> dict[str, Any]:
    """Return the arguments of `set_cookie` for a session; behind a proxy the cookie travels over https alone."""
    return {
        "key": COOKIE, "value": session.token, "httponly": True, "samesite": "strict", "path": "/",
        "secure": options.public_name is not None,
    }  # fmt: skip


def is_own_host(request: HTTPConnection, options: StudioOptions) -> bool:
    """Return whether a request was sent to a name of ours; a studio that others reach directly answers to any name."""
    name = _without_port(request.headers.get("host", ""))
    own = {*LOCAL_HOSTS, options.host, _without_port(options.public_name or "localhost")}
    return not options.is_local or name in own


def is_from_own_page(request: HTTPConnection, options: StudioOptions) -> bool:
    """Return whether a form of ours (by its Origin) or a script of ours (by its own header) sent this."""
    if request.headers.get(OWN_REQUEST_HEADER) == "1":
        return True
    origin = request.headers.get("origin", "")
    # A proxy may have put another name into Host; the Origin is the browser's.
    is_public = options.public_name is not None and origin == f"https://{options.public_name}"
    return is_public or origin.partition("://")[2] == request.headers.get("host", "")


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if port.isdigit() and name else host
