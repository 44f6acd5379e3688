"""The studio's pages and what they ask: Starlette, Jinja templates, one style sheet, one script, nothing from outside.

Gradio is the field's habit; docs/studio.md says why it was left. Here every page is readable HTML without a script; the
script only asks the three trying pages' questions and refreshes a running curve.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from configs.errors import UserError
from dialogue.safety import CHECKED_ON, Turn, helplines
from studio.config import StudioOptions
from studio.models import MAX_CHARACTERS, Models
from studio.report_pages import sections_of
from studio.run_folders import Run, find_runs
from studio.sessions import Session, Sessions, cookie_arguments, is_from_own_page, is_own_host

HERE = Path(__file__).parent
MAX_BODY_BYTES = 400_000
MAX_FORM_BYTES = 10_000
SIGNED_OUT = "You are not signed in. Sign in on another page, at /sign-in; what is written here stays."
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'; object-src 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
REPORT_PAGES = {
    "corpus": ("Corpus", ("corpus",), "What was read, dropped and kept.", "mindshift corpus build"),
    "training": ("Training", ("pretrain", "dialogue"), "Curves of finished and running runs.", "mindshift pretrain"),
    "evaluation": ("Evaluation", ("finetune",), "How a classifier does, label by label.", "mindshift finetune"),
    "benchmark": ("Benchmark", ("benchmark",), "Models beside each other over tasks.", "mindshift benchmark"),
    "audits": ("Audits", ("audit",), "What a model gives away, and whether it stigmatises.", "mindshift release audit"),
}
TRY_PAGES = {
    "fill-mask": ("Fill-mask", "The adapted encoder beside its base."),
    "classify": ("Classify", "Probabilities, thresholds, and the words behind them."),
    "chat": ("Chat", "The responder behind its safety layer."),
}


def build_app(options: StudioOptions, password: str | None, models: Models | None = None) -> Starlette:
    """Return the application.

    Args:
        options: where runs and models are.
        password: what must be given first, or None.
        models: for tests; made from the options otherwise.
    """
    studio = Studio(options, Sessions(password), models or Models(options))
    routes = [
        Route("/", studio.home),
        Route("/sign-in", studio.sign_in, methods=["GET", "POST"]),
        Route("/sign-out", studio.sign_out, methods=["POST"]),
        Route("/acknowledge", studio.acknowledge, methods=["POST"]),
        *(Route(f"/{name}", studio.report) for name in REPORT_PAGES),
        *(Route(f"/{name}", studio.trying) for name in TRY_PAGES),
        Route("/api/fill-mask", studio.fill_mask, methods=["POST"]),
        Route("/api/classify", studio.classify, methods=["POST"]),
        Route("/api/chat", studio.chat, methods=["POST"]),
        Mount("/static", StaticFiles(directory=HERE / "static")),
        Route("/favicon.ico", lambda _: RedirectResponse("/static/icon.svg")),
    ]
    guard = Middleware(BaseHTTPMiddleware, dispatch=studio.guard)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={404: studio.not_found})


class Studio:
    """The pages, over one set of options, sessions and models."""

    def __init__(self, options: StudioOptions, sessions: Sessions, models: Models) -> None:
        self.options, self.sessions, self.models = options, sessions, models
        self._pages = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._pages.filters["ready"] = Markup  # for charts and tables, which escape their own cells

    async def guard(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Let nobody past who has not signed in, and no question of a foreign page."""
        if not is_own_host(request, self.options):
            return Response("This studio answers to its own names only.", status_code=421)
        session = self.sessions.of(request)
        request.state.session = session
        path = request.url.path
        response: Response
        if request.method == "POST" and not is_from_own_page(request, self.options):
            response = JSONResponse({"error": "This request did not come from the studio's own page."}, 403)
        elif not self._is_in(session) and path != "/sign-in" and not path.startswith("/static/"):
            is_page = not path.startswith("/api/")
            response = RedirectResponse("/sign-in", 303) if is_page else JSONResponse({"error": SIGNED_OUT}, 401)
        else:
            response = await call_next(request)
        for name, value in SECURITY_HEADERS.items():
            response.headers[name] = value
        return response

    async def home(self, request: Request) -> Response:
        """Show which runs there are and what can be done with them."""
        runs = await run_in_threadpool(find_runs, self.options.runs)
        return self._page(request, "home.html", title="Overview", runs=runs, page_of=_page_of)

    async def sign_in(self, request: Request) -> Response:
        """Ask for the password, or check it."""
        if request.method == "POST":
            password = (await _fields(request)).get("password", [""])[0]
            if await run_in_threadpool(self.sessions.is_right, password):
                return self._let_in("/")
            return self._page(request, "sign_in.html", 401, title="Sign in", failed=True)
        return (
            RedirectResponse("/", 303)
            if self._is_in(request.state.session)
            else self._page(request, "sign_in.html", title="Sign in", failed=False)
        )

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        session: Session | None = request.state.session
        if session is not None:
            self.sessions.end(session)
        return RedirectResponse("/sign-in", 303)

    async def acknowledge(self, request: Request) -> Response:
        """Note that this session has agreed to what the gate of a release asks for."""
        agrees = set(await _fields(request)) >= {"diagnosis", "people", "sharing"}
        session: Session | None = request.state.session
        if session is None:  # without a password nobody has one before
            return self._let_in("/fill-mask", has_acknowledged=agrees)
        session.has_acknowledged = agrees
        return RedirectResponse("/fill-mask", 303)

    async def report(self, request: Request) -> Response:
        """Show one run of a stage, the newest unless another is chosen."""
        name = request.url.path.strip("/")
        title, stages, lead, command = REPORT_PAGES[name]
        runs = [run for run in await run_in_threadpool(find_runs, self.options.runs) if run.stage in stages]
        chosen = next((run for run in runs if run.name == request.query_params.get("run")), runs[0] if runs else None)
        sections, problem = await run_in_threadpool(sections_of, chosen) if chosen else ([], "")
        return self._page(
            request,
            "report.html",
            title=title,
            lead=lead,
            command=command,
            runs=runs,
            chosen=chosen,
            sections=sections,
            problem=problem,
            is_live=chosen is not None and not chosen.is_finished,
        )

    async def trying(self, request: Request) -> Response:
        """Show a page to try a model on."""
        name = request.url.path.strip("/")
        title, lead = TRY_PAGES[name]
        sources = await run_in_threadpool(self.models.sources)
        return self._page(
            request,
            f"{name.replace('-', '_')}.html",
            title=title,
            lead=lead,
            sources=sources,
            longest=MAX_CHARACTERS,
            has_acknowledged=_has_acknowledged(request),
            lines=helplines("crisis", self.options.locale),
            emergency=helplines("emergency", self.options.locale),
            checked_on=CHECKED_ON,
        )

    async def fill_mask(self, request: Request) -> Response:
        """Answer the fill-mask page."""
        if not _has_acknowledged(request):
            return JSONResponse({"error": "Read and accept the conditions on the fill-mask page first."}, 403)
        return await self._asked(request, lambda values: self.models.fill_mask(_text(values, "text")))

    async def classify(self, request: Request) -> Response:
        """Answer the classify page."""
        return await self._asked(request, lambda values: self.models.classify(_text(values, "text")))

    async def chat(self, request: Request) -> Response:
        """Stream an answer as JSON lines: `{"kind", "text", "route"}`, or `{"error"}`."""
        try:
            turns = _turns(await _values(request))
        except UserError as error:
            return JSONResponse({"error": str(error)}, 400)

        def lines() -> Iterator[str]:
            try:
                for piece in self.models.chat(turns):
                    yield json.dumps({"kind": piece.kind, "text": piece.text, "route": piece.route.value}) + "\n"
            except UserError as error:
                yield json.dumps({"error": str(error)}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def not_found(self, request: Request, error: Exception) -> Response:
        """Say that there is no such page."""
        return self._page(request, "not_found.html", 404, title="Not found")

    def _is_in(self, session: Session | None) -> bool:
        return self.sessions.is_open or session is not None

    def _let_in(self, to: str, *, has_acknowledged: bool = False) -> Response:
        session = self.sessions.start()
        session.has_acknowledged = has_acknowledged
        response = RedirectResponse(to, 303)
        response.set_cookie(**cookie_arguments(session, self.options))
        return response

    async def _asked(self, request: Request, ask: Any) -> Response:
        try:
            values = await _values(request)
            return JSONResponse(await run_in_threadpool(ask, values))
        except UserError as error:
            return JSONResponse({"error": str(error)}, 400)

    def _page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        shared = {
            "path": request.url.path,
            "is_in": self._is_in(request.state.session),
            "has_password": not self.sessions.is_open,
            "reports": REPORT_PAGES,
            "tries": TRY_PAGES,
            "runs_folder": str(self.options.runs),
        }
        return HTMLResponse(self._pages.get_template(template).render(shared | values), status)


def _page_of(run: Run) -> str:
    return next((name for name, (_, stages, *_rest) in REPORT_PAGES.items() if run.stage in stages), "")


def _has_acknowledged(request: Request) -> bool:
    session: Session | None = request.state.session
    return session is not None and session.has_acknowledged


async def _body(request: Request, most: int) -> bytes:
    """Return what was sent; of more than `most` bytes nothing is kept."""
    body, length = b"", 0
    async for part in request.stream():
        length += len(part)
        body = body + part if length <= most else b""
    if length > most:
        raise UserError("this is too long")
    return body


async def _fields(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form; one that is too long has none."""
    try:
        return parse_qs((await _body(request, MAX_FORM_BYTES)).decode("utf-8", "replace"))
    except UserError:
        return {}


async def _values(request: Request) -> dict[str, Any]:
    body = await _body(request, MAX_BODY_BYTES)
    try:
        values = json.loads(body)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UserError("this is no JSON object")
    return values


def _text(values: dict[str, Any], key: str) -> str:
    if not isinstance(values.get(key), str):
        raise UserError(f"{key} is missing")
    text = str(values[key])
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{key} holds half a character (a lone surrogate)", fix="Write it again.") from None
    return text


def _turns(values: dict[str, Any]) -> list[Turn]:
    # However many there are, and with half a character in them: first of all they must be screened for a crisis.
    turns = values.get("turns")
    if not isinstance(turns, list) or not turns:
        raise UserError("turns is missing")
    return [_turn(turn) for turn in turns]


def _turn(turn: Any) -> Turn:
    if not isinstance(turn, dict) or turn.get("role") not in ("user", "assistant"):
        raise UserError("a turn has no role")
    if not isinstance(turn.get("text"), str):
        raise UserError("a turn has no text")
    return Turn(turn["role"], turn["text"])
