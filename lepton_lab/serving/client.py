"""Client: a served artifact, called like a function; the standard library and NumPy are all it needs."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..artifacts.answering import predictions
from ..artifacts.checking import like, taken, to_array
from ..artifacts.decoding import writes
from ..artifacts.manifest import signature
from ..artifacts.texts import numbered, worded
from ..batches import leaves, over
from ..errors import LabError, SpecError
from .reading import BINARY, JSON, NAMED, from_binary, to_npy, to_npz

REFUSED = (400, 413, 415, 422)


class Client:
    """
    Calls a served artifact as if it were here.

    Each call has a connection of its own, so that a client may be shared by threads.

    Parameters
    ----------
    url
        Of the server, e.g. "http://127.0.0.1:40123".
    token
        What the server asks for.
    timeout
        Seconds that an answer may take, above 0.

    Raises
    ------
    SpecError
        If the url is none.
    """

    def __init__(self, url: str, token: str = "", timeout: float = 60.0) -> None:
        self.url, self.token, self.timeout = str(url).rstrip("/"), token, timeout
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("http", "https") or not parts.hostname or (port is None and ":" in parts.netloc[-6:]):
            raise SpecError(f"url={url!r}: must be the address of a server, such as http://127.0.0.1:40123")
        if not timeout > 0:
            raise SpecError(f"timeout={timeout!r}: must be above 0, seconds")
        if any(not " " < letter <= "~" for letter in token):
            raise SpecError("token: holds spaces or other letters than a token has; copy it again")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connect = lambda host=parts.hostname: kind(host, port, timeout=timeout)
        self._path = parts.path

    def __repr__(self) -> str:
        return f"<Client of {self.url}>"  # without the token, which notebooks would keep

    def __call__(self, *samples: Any, **named: Any) -> Any:
        """
        Scores of raw samples: NumPy or torch in, the same out; several inputs as `Artifact` takes them.

        Parameters
        ----------
        samples
            (B, *shape), or (*shape) for one; array, tensor or nested lists. A text, or a list of texts, where the
            model takes tokens.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            Scores (B, K), float32; (K,) of one sample.

        Raises
        ------
        SpecError
            If the server refuses the samples, in its sentence.
        LabError
            If it does not answer, or the token is wrong.
        """
        samples = self._numbered(samples)
        body = self._predict(samples, named, BINARY)
        try:
            scores = from_binary(body)
        except ValueError:
            raise _refusal(self.url, 200, body) from None
        return like((*samples, *named.values()), scores)

    def _numbered(self, samples: tuple[Any, ...]) -> tuple[Any, ...]:
        """Texts as tokens."""
        return numbered(samples, self.manifest) if worded(samples) else samples

    def _predict(self, samples: tuple[Any, ...], named: dict[str, Any], accept: str) -> bytes:
        """The server's answer to samples."""
        if len(samples) == 1 and not named and not isinstance(samples[0], (dict, tuple)):
            kind, body = BINARY, to_npy(_numbers(samples[0]))
        else:
            asked = signature(self.manifest)
            arrays = {name: _numbers(array) for name, array in asked.bound(samples, named).items()}
            kind, body = (NAMED, to_npz(arrays)) if asked.several else (BINARY, to_npy(arrays[asked.names[0]]))
        return self._ask("POST", "/predict", body, {"Content-Type": kind, "Accept": accept})

    def predict(self, *samples: Any, **named: Any) -> Any:
        """What the scores of raw samples say, as `Artifact.predict` gives it."""
        samples = self._numbered(samples)
        if writes(self.manifest):
            texts = json.loads(self._predict(samples, named, JSON))["text"]
            asked = signature(self.manifest)
            first = to_array(asked.bound(samples, named)[asked.names[0]])
            return texts[0] if first.ndim == len(asked.inputs[0].shape) else texts
        scores = over(np.asarray, self(*samples, **named))
        if alone := self._alone(scores):
            scores = [scores] if signature(self.manifest).apart else over(lambda array: array[None], scores)
        asked = signature(self.manifest)
        batch = taken(asked, samples, named)[0] if asked.several else None
        return predictions(scores, self.manifest, batch, alone)

    def _alone(self, scores: Any) -> bool:
        """Whether scores are of one sample by itself."""
        if signature(self.manifest).apart or isinstance(scores, list):
            return not isinstance(scores, list)
        return leaves(scores)[0].ndim == len(self.manifest["output"]["shape"])

    @property
    def manifest(self) -> dict[str, Any]:
        """All that the served artifact says of itself; asked for once."""
        if not hasattr(self, "_manifest"):
            self._manifest: dict[str, Any] = json.loads(self._ask("GET", "/manifest"))
        return self._manifest

    def health(self) -> dict[str, Any]:
        """Status, and requests, samples and calls of the model since the server started."""
        return json.loads(self._ask("GET", "/health"))

    def _ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        """The answer's body, or what the server says as an error."""
        connection = self._connect()
        headers = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        try:
            # A server that refuses before it has read the body closes the connection; its answer is there all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._path + path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except TimeoutError:
            raise LabError(f"server {self.url} gave no answer within {self.timeout:g} s: is it busy?") from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise LabError(f"server {self.url} does not answer ({why}): is it running, and at that address?") from None
        finally:
            connection.close()
        if answer.status == 200:
            return content
        raise _refusal(self.url, answer.status, content)


def _numbers(samples: Any) -> Any:
    array = to_array(samples)
    if array.dtype == object:
        raise SpecError("samples that hold something other than numbers: give an array of numbers")
    return array


def _refusal(url: str, status: int, body: bytes) -> LabError:
    try:
        sentence = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        sentence = f"something that is no answer of a Lepton Lab server: {body[:60]!r}"
    return (SpecError if status in REFUSED else LabError)(f"server {url} answered {status}: {sentence}")
