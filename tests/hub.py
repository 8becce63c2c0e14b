"""A small hub on 127.0.0.1: it serves folders as the repositories of models and datasets, by the routes that ``huggingface_hub`` and
``datasets`` ask for, takes uploads, and fails on request in the ways that a real one fails.

``<root>/models/<owner>/<name>/`` is a model, ``<root>/datasets/<owner>/<name>/`` a data set; another revision of it lies beside it as
``<name>@<revision>``, slashes written as ``~``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet", ".gz", ".xz", ".bin")
"""What a real hub keeps in LFS, and names by its sha256."""

ROUTES = (
    ("resolve", re.compile(r"^/(?:(?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+(?:/convert/[^/]+)?)/(?P<path>.+)$")),
    ("tree", re.compile(r"^/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?$")),
    ("paths_info", re.compile(r"^/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)$")),
    ("preupload", re.compile(r"^/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)$")),
    ("commit", re.compile(r"^/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)$")),
    ("refs", re.compile(r"^/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)/refs$")),
    ("info", re.compile(r"^/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?$")),
)  # fmt: skip


@dataclass
class Hub:
    """The hub's folder, what it was asked for (``asked``), and how it fails: ``gated`` repositories answer 401; of the files in
    ``torn`` only half is sent, once; those in ``altered`` come with one byte changed, those in ``longer`` with more than was announced;
    repositories in ``outside`` list a file above their folder; ``down`` answers 503 to everything.
    """

    root: Path
    asked: list[str] = field(default_factory=list)
    gated: set[str] = field(default_factory=set)
    torn: set[str] = field(default_factory=set)
    altered: set[str] = field(default_factory=set)
    longer: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)
    down: bool = False
    url: str = ""

    def folder(self, kind: str, repo: str, revision: str) -> Path | None:
        """Where a revision of a repository lies, if it does; the name of a commit is the revision it belongs to."""
        here = self.root / kind / repo
        for folder in (here, *here.parent.glob(f"{here.name}@*")):
            name = folder.name.partition("@")[2].replace("~", "/") or "main"
            if folder.is_dir() and revision in (name, commit(folder)):
                return folder
        return None


def commit(folder: Path) -> str:
    """The commit of a repository: a digest of its files."""
    whole = hashlib.sha1()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            whole.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return whole.hexdigest()


def start(root: Path) -> Hub:
    """Serve ``root`` for as long as the process lives."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (_Answer,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return hub


class _Answer(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if path == "/api/repos/create" and not self.hub.down:
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        self._answer(body)

    def _answer(self, body: bytes = b"") -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        if self.hub.down:
            return self._refuse(503, "", "Service Unavailable")
        path = urlsplit(self.path).path
        for name, route in ROUTES:
            if found := route.match(path):
                parts = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                kind = parts.get("kind", "models")
                if parts["repo"] in self.hub.gated and name == "resolve":
                    return self._refuse(401, "GatedRepo", "Access to this repository is restricted.")
                if self.hub.folder(kind, parts["repo"], "main") is None:
                    return self._refuse(404, "RepoNotFound", "Repository not found")
                folder = self.hub.folder(kind, parts["repo"], parts.get("revision", "main"))
                if folder is None:
                    return self._refuse(404, "RevisionNotFound", "Invalid rev id")
                return getattr(self, f"_{name}")(folder, kind, parts, body)
        return self._refuse(404, "", "Not found")

    def _resolve(self, folder: Path, kind: str, parts: dict[str, str], body: bytes) -> None:
        path = folder / (parts["path"] if parts["repo"] not in self.hub.outside else Path(parts["path"]).name)
        if not path.is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found")
        name, content = f"{parts['repo']}/{parts['path']}", path.read_bytes()
        tag = _entry(folder, path)["lfs"]["oid"] if path.suffix in LARGE else _git_digest(content)
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": commit(folder), "Accept-Ranges": "bytes"}
        if path.suffix in LARGE:
            headers |= {"X-Linked-ETag": f'"{tag}"', "X-Linked-Size": str(len(content))}
        if name in self.hub.altered:
            content = bytes([content[0] ^ 1]) + content[1:]
        if name in self.hub.longer and self.command == "GET":
            content += bytes(10_000)
        status, start = 200, 0
        if given := re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", "")):
            status, start = 206, int(given[1])
            stop = int(given[2]) + 1 if given[2] else len(content)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            content = content[start:stop]
        self._send(status, content, headers, torn=self.command == "GET" and name in self.hub.torn)
        if self.command == "GET":
            self.hub.torn.discard(name)

    def _info(self, folder: Path, kind: str, parts: dict[str, str], body: bytes) -> None:
        files = [{"rfilename": str(path.relative_to(folder))} for path in sorted(folder.rglob("*")) if path.is_file()]
        files += [{"rfilename": "../../config.json"}] * (parts["repo"] in self.hub.outside)
        common = {"sha": commit(folder), "tags": [], "downloads": 0, "likes": 0}
        common |= dict.fromkeys(("private", "gated", "disabled"), False)
        self._json({"id": parts["repo"], "_id": "0", **common, "siblings": files})

    def _tree(self, folder: Path, kind: str, parts: dict[str, str], body: bytes) -> None:
        start = folder / parts.get("path", "")
        if not start.is_dir():
            return self._refuse(404, "EntryNotFound", "Entry not found")
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["False"])[0].lower() in ("true", "1")
        paths = sorted(start.rglob("*") if recursive else start.iterdir())
        found = [_entry(folder, path) for path in paths]
        if parts["repo"] in self.hub.outside:
            found.append({**_entry(folder, folder / "config.json"), "path": "../../config.json"})
        self._json(found)

    def _paths_info(self, folder: Path, kind: str, parts: dict[str, str], body: bytes) -> None:
        form = json.loads(body) if body.lstrip()[:1] == b"{" else parse_qs(body.decode())
        paths = form["paths"] if isinstance(form["paths"], list) else [form["paths"]]
        self._json([_entry(folder, folder / path) for path in paths if (folder / path).exists() and path])

    def _create(self, asked: dict[str, str]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.hub.gated:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        (self.hub.root / "models" / repo).mkdir(parents=True)
        self._json({"url": f"{self.hub.url}/{repo}"})

    def _preupload(self, folder: Path, kind: str, parts: dict[str, str], body: bytes) -> None:
        files = json.loads(body)["files"]
        self._json({"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]})

    def _commit(self, folder: Path, kind: str, parts: dict[str, str], body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                (folder / line["value"]["path"]).write_bytes(base64.b64decode(line["value"]["content"]))
        self._json(
            {"success": True, "commitOid": commit(folder), "commitUrl": f"{self.hub.url}/{parts['repo']}/commit/{commit(folder)}"}
        )

    def _refs(self, folder: Path, kind: str, parts: dict[str, str], body: bytes) -> None:
        self._json(
            {"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": commit(folder)}], "converts": [], "tags": []}
        )

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str], torn: bool = False) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if torn else content)
        if torn:
            self.close_connection = True


def _entry(folder: Path, path: Path) -> dict[str, object]:
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
    content = path.read_bytes()
    entry = {"type": "file", "path": name, "size": len(content), "oid": _git_digest(content)}
    if path.suffix in LARGE:
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
