"""The file: a zip of a manifest, weights and a graph, written whole or not at all, and read only if it is unchanged."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from ..errors import LabError
from ..files import remedy, replacing, why

FORMAT = 4
"""
The newest that is read; each file is written in the oldest that can say it, which earlier versions read.

1 takes raw samples of one shape, 2 several inputs or open sizes; 3 gives several outputs, or takes a sample at a time;
4 holds coded weights.
"""
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
GRAPHS = {"torch": "graph.json", "onnxruntime": "graph.onnx"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # a date in each member would make equal artifacts differ
LARGEST = {MANIFEST: 2**24, "graph.json": 2**26, "graph.onnx": 2**28}  # bytes that a member may unpack to
WAYS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
AGAIN = "write it again, or take another copy"


def pack(path: Path, manifest: dict[str, Any], graph: bytes, weights: bytes) -> None:
    """
    Write an artifact, with a manifest as `manifest.build` makes it; the file appears when it is whole.

    Raises LabError where it can't be written.
    """
    members = {GRAPHS[manifest["runtime"]]: graph, WEIGHTS: weights}
    manifest = {
        "format": _format(manifest),
        **manifest,
        "sha256": {name: _hash(body) for name, body in members.items()},
    }
    manifest["digest"] = digest(manifest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft, zipfile.ZipFile(draft, "w") as file:
            for name, body in {MANIFEST: _json(manifest).encode(), **members}.items():
                info = zipfile.ZipInfo(name, EPOCH)
                info.external_attr = 0o644 << 16
                how = zipfile.ZIP_STORED if name == WEIGHTS else zipfile.ZIP_DEFLATED
                file.writestr(info, body, how, 9)
    except OSError as error:
        raise unwritten("artifact", path, error) from None


def _format(manifest: dict[str, Any]) -> int:
    if manifest["scheme"] == "shared":
        return FORMAT
    if "outputs" in manifest or manifest.get("call") == "list":
        return 3
    return 2 if "inputs" in manifest else 1


def unpack(path: Path) -> tuple[dict[str, Any], bytes, bytes]:
    """
    Manifest, graph and weights of an artifact, all as they were written.

    Raises LabError, in one sentence: not there, no artifact, truncated, changed, or newer than this library.
    """
    if path.is_dir():
        raise LabError(f"artifact {str(path)!r} is a folder, not a file: {instead(path)}")
    if not path.is_file():
        raise LabError(f"artifact {str(path)!r}: there is no such file; name one that lab.export wrote")
    try:
        with zipfile.ZipFile(path) as file:
            infos = {info.filename: info for info in file.infolist()}
            if MANIFEST not in infos or infos[MANIFEST].compress_type not in WAYS:
                raise refused(path, "is a zip file without a manifest, so no artifact; name one that lab.export wrote")
            manifest = _manifest(path, _read(path, file, infos[MANIFEST]))
            graph = GRAPHS[manifest["runtime"]]
            if sorted(file.namelist()) != sorted((MANIFEST, WEIGHTS, graph)):
                raise refused(path, f"holds other members than a manifest, weights and a graph; {AGAIN}")
            if infos[WEIGHTS].compress_type != zipfile.ZIP_STORED or infos[graph].compress_type not in WAYS:
                raise refused(path, f"holds members in a form that is not written; {AGAIN}")
            bodies = {name: _read(path, file, infos[name]) for name in (graph, WEIGHTS)}
    except zipfile.BadZipFile as error:
        what = "is truncated or changed" if path.read_bytes()[:2] == b"PK" else "is no artifact (not a zip file)"
        raise refused(path, f"{what}: {str(error)[:80]}; {AGAIN}") from None
    except (OSError, EOFError, zlib.error, RuntimeError, ValueError, struct.error) as error:
        raise refused(path, f"can't be read: {str(error)[:80]}; {AGAIN}") from None
    for name, body in bodies.items():
        if manifest["sha256"].get(name) != _hash(body):
            raise refused(path, f"was changed after it was written: {name} has another hash; {AGAIN}")
    return manifest, bodies[graph], bodies[WEIGHTS]


def instead(folder: Path) -> str:
    """What to load where a run, or a folder, is given in place of a file."""
    if files := sorted(folder.glob("*.lepton")):
        return f"name the file in it, {str(files[0])!r}"
    if (folder / "spec.json").is_file():
        return "it holds no artifact; run.model() gives the module, lab.export(run, 'model.lepton') writes a file"
    return "name a file that lab.export wrote"


def annotate(path: Path, **facts: Any) -> None:
    """Add facts such as `measured` to an artifact's manifest; all else stays as it is. Raises what `unpack` does."""
    manifest, graph, weights = unpack(path)
    content = {k: v for k, v in manifest.items() if k not in ("format", "sha256", "digest")}
    pack(path, {**content, **facts}, graph, weights)


def unwritten(what: str, path: Path, error: OSError) -> LabError:
    """The error of a file that can't be written; one that stood there is whole."""
    problem = f"{what} {str(path)!r} can't be written ({why(error, path)})"
    return LabError(f"{problem}: {remedy(error)}, then do it again; what stood there is as it was")


def refused(path: Path, why: str) -> LabError:
    """The error of a file that is not read."""
    return LabError(f"artifact {str(path)!r} {why}")


def digest(manifest: dict[str, Any]) -> str:
    """A hash of the manifest itself."""
    return _hash(_json({k: v for k, v in manifest.items() if k != "digest"}).encode())


def _manifest(path: Path, body: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(body)
        newer = manifest["format"] > FORMAT
    except (ValueError, KeyError, TypeError):
        raise refused(path, f"holds a manifest that can't be read; {AGAIN}") from None
    if newer:  # first of all: a newer one may differ in anything else
        writer = f"format {manifest['format']}, written by lepton-lab {str(manifest.get('lab', '?'))[:20]}"
        raise refused(path, f"has {writer}, and this one reads up to {FORMAT}: upgrade it")
    if manifest.get("digest") != digest(manifest):
        raise refused(path, f"was changed after it was written: its manifest has another hash; {AGAIN}")
    if manifest.get("runtime") not in GRAPHS or not isinstance(manifest.get("sha256"), dict):
        raise refused(path, f"names runtime {str(manifest.get('runtime'))[:20]!r}, which is not known; {AGAIN}")
    return manifest


def _read(path: Path, file: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    most = LARGEST.get(info.filename, path.stat().st_size)
    if info.file_size > most:
        what = f"says that {info.filename[:30]} unpacks to {info.file_size:,} bytes"
        raise refused(path, f"{what}, and at most {most:,} are read")
    return file.read(info)


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
