"""The routes of a server: health, manifest, predict, and a page that tells of them without the network."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from ..artifacts.answering import answered, plain
from ..artifacts.decoding import writes
from ..artifacts.outputs import one
from ..errors import LabError
from .batching import Batcher, Full
from .describing import described, request_of, responses
from .reading import BINARY, LARGEST, Refused, read, to_binary

if TYPE_CHECKING:
    from ..artifacts import Artifact
    from ..artifacts.inputs import Signature

PAGE = Path(__file__).with_name("page.html")
SLOW = 2**16  # bytes of a body from which reading it would hold up other requests
bearer = HTTPBearer(auto_error=False, scheme_name="token", description="What serve() or `lepton-lab serve` told.")
pages = APIRouter(include_in_schema=False)
SENTENCES = {404: "there is no such page: see /docs", 405: "is not what this address takes: see /docs"}


def application(artifact: Artifact, token: str, most: int = 64, wait: float = 0.0) -> FastAPI:
    """
    The application that serves an artifact, with `most` and `wait` as `Batcher` takes them.

    Requests must bring the token, as `Authorization: Bearer TOKEN`; health and the pages about it are open.
    """
    manifest, example = artifact.manifest, plain(artifact.answered(artifact.made_up(1)))
    # A request must not change another's answer, as it would where one scale is taken of all samples in a call.
    apart = artifact.scheme == "int8_dynamic"
    batcher = Batcher(artifact.forward, most, wait, apart)
    writer = Batcher(artifact.written, most, wait, apart) if writes(manifest) else None

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(each.run()) for each in (batcher, writer) if each is not None]
        yield
        for task in tasks:
            task.cancel()

    def allowed(credentials: HTTPAuthorizationCredentials | None = Depends(bearer)) -> None:  # noqa: B008
        if credentials is None or not secrets.compare_digest(credentials.credentials.encode(), token.encode()):
            what = "missing" if credentials is None else "wrong"
            sentence = f"the token is {what}: send the header Authorization: Bearer TOKEN"
            raise Refused(401, sentence, {"WWW-Authenticate": "Bearer"})

    app = FastAPI(
        title=f"Lepton Lab: {manifest['model']}",
        version=str(manifest["lab"]),
        description=described(manifest, example),
        docs_url=None,  # FastAPI's own pages take their code from the network
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={Refused: _refuse, HTTPException: _miss},
    )
    app.include_router(pages)

    @app.get("/health", summary="Whether the server answers, and what it has done so far")
    async def health() -> dict[str, Any]:
        counts = {"requests": batcher.requests, "samples": batcher.samples, "calls": batcher.calls}
        return {"status": "ok", **counts}

    @app.get("/manifest", summary="All that the artifact says of itself", dependencies=[Depends(allowed)])
    async def tell() -> JSONResponse:
        return JSONResponse(manifest)

    @app.post(
        "/predict",
        summary="Scores of samples, and what they say",
        dependencies=[Depends(allowed)],
        openapi_extra=request_of(artifact.signature),
        responses=responses(manifest, example),
    )
    async def predict(request: Request) -> Response:
        content = await _body(request), request.headers, artifact.signature, manifest
        samples, alone = await asyncio.to_thread(read, *content) if len(content[0]) > SLOW else read(*content)
        try:
            scores = await batcher(samples)
            if request.headers.get("accept") == BINARY:
                return Response(*to_binary(one(scores) if alone else scores))
            told = answered(scores, manifest, samples)
            if writer is not None:
                told["text"] = answered(await writer(samples), manifest)["text"]
            return JSONResponse(plain(told))
        except Full:
            raise Refused(503, "too many requests wait: try again", {"Retry-After": "1"}) from None
        except Exception as error:
            raise _failed(error, artifact.signature) from None

    return app


def _failed(error: Exception, signature: Signature) -> Refused:
    """Why the model gave nothing for a request: the request's fault, where the manifest does not tell all limits."""
    message = str(error).partition("\n")[0][:200]
    unknown = signature.open or any(item.dtype == "int64" and not item.vocabulary for item in signature.inputs)
    if isinstance(error, LabError) and unknown:
        return Refused(422, f"the model can't compute these: a length or a whole number is out of range ({message})")
    return Refused(500, f"the model failed with {type(error).__name__}: {message}")


async def _refuse(_: Request, error: Any) -> Response:
    return JSONResponse({"error": str(error)}, error.status, error.headers)


async def _miss(request: Request, error: Any) -> Response:
    why = SENTENCES.get(error.status_code, str(error.detail))
    return JSONResponse({"error": f"{request.method} {request.url.path}: {why}"}, error.status_code, error.headers)


@pages.get("/docs")
async def docs() -> HTMLResponse:
    """A page that tells of the routes; its policy lets nothing come from elsewhere."""
    nonce = secrets.token_urlsafe(16)
    policy = f"default-src 'none'; connect-src 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
    page = PAGE.read_text(encoding="utf-8").replace("NONCE", nonce)
    return HTMLResponse(page, headers={"Content-Security-Policy": f"{policy}; base-uri 'none'"})


@pages.get("/")
async def start() -> RedirectResponse:
    """To the page."""
    return RedirectResponse("docs")


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is too large."""
    announced = request.headers.get("content-length", "0")
    parts, count = [], int(announced) if announced.isdecimal() else 0
    if count <= LARGEST:
        count = 0
        async for part in request.stream():
            parts.append(part)
            count += len(part)
            if count > LARGEST:
                break
    if count > LARGEST:
        raise Refused(413, f"a body of more than {LARGEST // 2**20} MiB: send fewer samples at once")
    return b"".join(parts)
