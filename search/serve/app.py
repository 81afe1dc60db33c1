"""The web application around one model: a page to draw on, predictions, an OpenAPI page, health and metrics."""

import asyncio
import base64
import gc
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from search.serve import bodies
from search.serve.batches import Batches
from search.serve.bodies import MOST_IMAGES, MOST_MEGAPIXELS, MOST_MIB, Bodies, Inputs
from search.serve.measures import Measured, Measures
from trainables.model import Model

# Unpacking a picture leaves Python's lock to others for the most part; each may take half a gigabyte.
_DECODERS = 2
_PAGE = files("search.serve") / "page.html"


@dataclass(frozen=True)
class Served:
    """What is served.

    Args:
        model: Loaded.
        name: Of the run or model folder, as it was typed.
        metrics: Of metrics.json; empty where there is none.
        version: Of this project; None in a checkout.
    """

    model: Model
    name: str
    metrics: Mapping[str, Any]
    version: str | None

    def facts(self) -> dict[str, Any]:
        """What /healthz says, and the page shows."""
        card = self.model.card
        return {
            "status": "ok",
            "model": self.name,
            "version": self.version,
            "dataset": card.dataset,
            "family": card.config.get("model"),
            "height": card.height,
            "width": card.width,
            "classes": list(card.class_names),
            "metrics": dict(self.metrics),
        }


class Prediction(BaseModel):
    """What one image shows."""

    name: str | None = Field(description="The file's name in a form; else null.")
    digit: str = Field(description="The class with the highest probability.", examples=["7"])
    probability: float = Field(description="Of that class, in [0, 1].", examples=[0.9873])
    probabilities: dict[str, float] = Field(
        description="Of each class by its name, in [0, 1]; they sum to 1.", examples=[{"1": 0.0127, "7": 0.9873}]
    )
    seen: list[list[int]] | None = Field(
        None, description="With ?seen=true: rows of the grey levels that the network saw, light ink on dark."
    )


class Answer(BaseModel):
    """Predictions in the order of the images."""

    predictions: list[Prediction]


class Problem(BaseModel):
    """Why a request was refused, in one sentence: what must hold, what was got."""

    error: str = Field(examples=["the picture must be a picture (BMP, GIF, JPEG, PNG, WEBP), got something else"])


def application(served: Served, hosts: Sequence[str] | None) -> FastAPI:
    """The application.

    Args:
        served: The model.
        hosts: The names that it may be called by, against pages that lead a browser here under a name of their own
            (DNS rebinding); None for any.
    """
    card, facts = served.model.card, served.facts()
    measures, reader = Measures(), Bodies()
    batches = Batches(served.model.probabilities, measures.batch)
    decoders = ThreadPoolExecutor(_DECODERS, "decode")

    # FastAPI's own page fetches its scripts from elsewhere in the network.
    app = FastAPIOffline(
        redoc_url=None,
        title="digitsearch",
        summary=f"Reads digits with {served.name}.",
        description=_description(card.height, card.width),
        version=served.version or "0",
        lifespan=lambda _: _warm(batches, card.height, card.width),
        exception_handlers={
            StarletteHTTPException: _refused,
            RequestValidationError: _wrong_query,
            Exception: _broken,
        },
    )
    app.add_middleware(Named, hosts=hosts)
    app.add_middleware(Measured, measures=measures)

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return _page(facts)

    @app.post("/predict", response_model=Answer, responses=_PROBLEMS, openapi_extra={"requestBody": _REQUEST_BODY})
    async def predict(request: Request, seen: bool = False) -> Response:
        """Read one image or many.

        The body is a picture, a form with one or many pictures, or JSON with grey levels. Pictures may be of any size,
        dark on light or light on dark: each is cut to its ink, scaled and centred as the data set was.
        """
        async with reader.read(request) as body:
            content_type = request.headers.get("content-type", "")
            loop = asyncio.get_running_loop()
            read = await loop.run_in_executor(decoders, bodies.inputs, content_type, body, card.height, card.width)
        try:
            found = await batches.probabilities(read.pixels)
        except asyncio.QueueFull as err:
            sentence = "too many images are waiting to be read; try again in a second"
            raise HTTPException(503, sentence, {"Retry-After": "1"}) from err
        return Response(to_json(_answer(read, found, card.class_names, seen)), media_type="application/json")

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Say which model this is, and that it answers."""
        return facts

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts and times of this process, for Prometheus."""
        return Response(measures.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _description(height: int, width: int) -> str:
    return (
        f"The model sees images of {height} x {width} pixels. A request has at most {MOST_MIB} MiB and {MOST_IMAGES} "
        f"images, of at most {MOST_MEGAPIXELS} megapixels together. A request that is refused gets a sentence that "
        "says what must hold and what was got."
    )


@asynccontextmanager
async def _warm(batches: Batches, height: int, width: int) -> Any:
    """The first prediction of a process is slow: it is nobody's."""
    await batches.probabilities(np.zeros((1, height, width), np.uint8))
    # What has been loaded stays to the end. Looked through for garbage again and again, it holds up those who wait.
    gc.collect()
    gc.freeze()
    yield


def _answer(read: Inputs, found: np.ndarray, class_names: Sequence[str], seen: bool) -> dict[str, Any]:
    rounded = found.astype(np.float64).round(6).tolist()
    return {
        "predictions": [
            {
                "name": name,
                "digit": class_names[best],
                "probability": row[best],
                "probabilities": dict(zip(class_names, row, strict=True)),
                **({"seen": pixels.tolist()} if seen else {}),
            }
            for name, row, best, pixels in zip(
                read.names, rounded, found.argmax(axis=1).tolist(), read.pixels, strict=True
            )
        ]
    }


class Named:
    """Around an application: answers only to the names that it may be called by."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if self._hosts is None or scope["type"] != "http" or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        sentence = f"this server answers to {' and '.join(self._hosts)} only, got another Host; start it with --host"
        await JSONResponse({"error": sentence}, 421)(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        assert self._hosts is not None
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        try:
            return len(named) == 1 and urlsplit(f"//{named[0]}").hostname in self._hosts
        except ValueError:
            return False


async def _refused(request: Request, err: Exception) -> Response:
    assert isinstance(err, StarletteHTTPException)
    return JSONResponse({"error": _sentence(request, err)}, err.status_code, err.headers)


def _sentence(request: Request, err: StarletteHTTPException) -> str:
    """What routing says of its own is a word; here it is a sentence."""
    path = request.url.path[:200]
    if err.status_code == 404:
        return f"the address must be one of /, /predict, /docs, /healthz and /metrics, got {path!r}"
    if err.status_code == 405:
        allowed = (err.headers or {}).get("Allow", "another method")
        return f"{path} must be asked for with {allowed}, got {request.method[:20]}"
    return str(err.detail)


async def _wrong_query(request: Request, err: Exception) -> Response:
    return JSONResponse({"error": "?seen must be true or false, got another value"}, 422)


async def _broken(request: Request, err: Exception) -> Response:
    return JSONResponse({"error": "something broke in the server; its log says what"}, 500)


def _page(facts: Mapping[str, Any]) -> HTMLResponse:
    """The page to draw on. It asks nobody but this server for anything, and is held to it by the browser."""
    # Whatever a run is called ends no script.
    said = json.dumps(facts).replace("<", "\\u003c")
    text = _PAGE.read_text(encoding="utf-8").replace("{{facts}}", said)
    policy = (
        f"default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; "
        f"script-src {_hashes('script', text)}; style-src {_hashes('style', text)}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(text, headers=headers)


def _hashes(tag: str, text: str) -> str:
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in parts)


_BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}
_ROWS = {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}}
_EXAMPLE = [[0, 0, 180, 0], [0, 60, 255, 0], [0, 0, 255, 0], [0, 0, 240, 0]]
_REQUEST_BODY = {
    "required": True,
    "description": "A picture's bytes, a form with files, or JSON with grey levels from 0 to 255.",
    "content": {
        **{kind: {"schema": {}} for kind in bodies.PICTURE_TYPES},
        bodies.FORM_TYPE: {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": _BINARY, "maxItems": MOST_IMAGES}},
                "required": ["images"],
            }
        },
        bodies.JSON_TYPE: {
            "schema": {
                "type": "object",
                "properties": {
                    "images": {
                        "description": "One image (H, W), or many (N, H, W), of any size.",
                        "anyOf": [_ROWS, {"type": "array", "items": _ROWS, "maxItems": MOST_IMAGES}],
                    }
                },
                "required": ["images"],
            },
            "example": {"images": _EXAMPLE},
        },
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is empty, damaged, or was not sent whole."},
    408: {"model": Problem, "description": "The body was not sent in time."},
    413: {"model": Problem, "description": "Too many bytes or too many images."},
    415: {"model": Problem, "description": "The Content-Type is none that is read here."},
    422: {"model": Problem, "description": "It is no picture, a blank or too large one, or no grey levels."},
    503: {"model": Problem, "description": "Too much is waiting; Retry-After says when to try again."},
}
