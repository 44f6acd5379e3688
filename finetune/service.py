"""The HTTP service of one classifier: `POST /predict`, `GET /model`, `GET /health`, documented at `/openapi.json`.

Texts are never logged, kept or echoed, not even in an error's answer.
"""

import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from pydantic import AfterValidator, BaseModel, Field

from finetune.batching import Batcher, TooBusyError
from finetune.deployment_config import ServeRecipe
from finetune.inference import Classifier
from finetune.prediction_files import prediction_record

KEY_HEADER = "X-API-Key"
OPEN_PATHS = ("/health", "/openapi.json", "/docs", "/redoc")
"""What is answered without the key."""
WRONG_KEY = f"the header {KEY_HEADER} is missing or wrong"
BYTES_A_CHARACTER = 12  # an astral character written as two JSON escapes
NOTICE = (
    "Labels are a model's opinion about a text. They are no diagnosis, and must not decide anything about a person."
)


def require_utf8(value: int | str | None) -> int | str | None:
    """Refuse half a character (a lone surrogate): the tokenizer would fail for a whole batch of requests."""
    if isinstance(value, str):
        value.encode("utf-8")  # its error is a ValueError, which answers with 422
    return value


class Text(BaseModel):
    """A text to classify."""

    id: Annotated[int | str | None, AfterValidator(require_utf8)] = Field(
        default=None, description="Comes back with the prediction; numbered if absent."
    )
    text: Annotated[str, AfterValidator(require_utf8)]


class Asked(BaseModel):
    """The body of a request."""

    texts: list[Text]


class Prediction(BaseModel):
    """What the classifier says of one text."""

    id: int | str
    probabilities: dict[str, float]
    labels: list[str]
    send_to_human: bool | None = Field(default=None, description="Set where the classifier was tuned to abstain.")


class Answered(BaseModel):
    """The answer to a request, in the order asked."""

    predictions: list[Prediction]


def build_service(classifier: Classifier, recipe: ServeRecipe, *, api_key: str | None) -> FastAPI:
    """Return the application.

    Args:
        classifier: what answers.
        recipe: limits.
        api_key: what `X-API-Key` must hold; None: no key is asked for.
    """
    batcher = Batcher(
        classifier,
        max_batch=recipe.max_texts,
        max_waiting=recipe.max_waiting_texts,
        wait_seconds=recipe.batch_wait_milliseconds / 1000,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with batcher:
            yield

    service = FastAPI(title="mindshift", description=NOTICE, version="1", lifespan=lifespan)
    _guard(service, recipe.max_texts * recipe.max_characters * BYTES_A_CHARACTER, api_key)
    _add_routes(service, classifier, recipe, batcher)
    return service


def _add_routes(service: FastAPI, classifier: Classifier, recipe: ServeRecipe, batcher: Batcher) -> None:
    decision = classifier.decision
    key = APIKeyHeader(name=KEY_HEADER, auto_error=False)  # for the documentation: `_guard` has looked at it before

    @service.get("/health", summary="Whether the service answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @service.get("/model", dependencies=[Depends(key)], summary="Labels, thresholds and limits")
    async def model() -> dict[str, Any]:
        return decision.label_set.to_dict() | {
            "thresholds": dict(zip(decision.label_set.names, decision.thresholds, strict=True)),
            "max_texts": recipe.max_texts,
            "max_characters": recipe.max_characters,
            "notice": NOTICE,
        }

    @service.post(
        "/predict",
        dependencies=[Depends(key)],
        summary="Classify texts",
        response_model=Answered,
        response_model_exclude_none=True,
        responses={413: {"description": "Too many or too long texts"}, 503: {"description": "Too busy: come again"}},
    )
    async def predict(asked: Asked) -> dict[str, Any]:
        if len(asked.texts) > recipe.max_texts:
            raise HTTPException(413, f"{len(asked.texts)} texts; at most {recipe.max_texts} a request")
        for number, item in enumerate(asked.texts):
            if len(item.text) > recipe.max_characters:
                raise HTTPException(413, f"text {number} is longer than {recipe.max_characters} characters")
        if not asked.texts:
            return {"predictions": []}
        try:
            found = await batcher.predict([item.text for item in asked.texts])
        except TooBusyError:
            raise HTTPException(503, "too busy", headers={"Retry-After": "1"}) from None
        rows = zip(asked.texts, *found, strict=True)
        return {
            "predictions": [
                prediction_record(decision, number if item.id is None else item.id, probabilities_L, decisions_L)
                for number, (item, probabilities_L, decisions_L) in enumerate(rows)
            ]
        }

    @service.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without the input that pydantic would send back: it holds the text.
        problems = [{"where": list(found["loc"]), "what": found["msg"]} for found in error.errors()]
        return JSONResponse({"detail": problems}, status_code=422)


def _is_key(given: str | None, api_key: str | None) -> bool:
    # Compared in constant time: how long a refusal takes must not tell how much of a key was right.
    return api_key is None or hmac.compare_digest((given or "").encode(), api_key.encode())


def _guard(service: FastAPI, largest_bytes: int, api_key: str | None) -> None:
    """Refuse a request before its body is read and its route is looked up."""

    @service.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path not in OPEN_PATHS and not _is_key(request.headers.get(KEY_HEADER), api_key):
            return JSONResponse({"detail": WRONG_KEY}, status_code=401)
        if request.method != "POST":
            return await proceed(request)  # no other route reads a body
        declared = request.headers.get("content-length", "")
        # A body that comes in pieces ends where its sender likes, whatever length is declared beside it.
        if "transfer-encoding" in request.headers or not declared.isdecimal():
            return JSONResponse({"detail": "Content-Length is needed, without Transfer-Encoding"}, status_code=411)
        if int(declared) > largest_bytes:
            return JSONResponse({"detail": f"at most {largest_bytes} bytes a request"}, status_code=413)
        return await proceed(request)
