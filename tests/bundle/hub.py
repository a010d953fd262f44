"""A small hub on the loopback: enough of its HTTP for the hub's own client to download and upload by."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SHA = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a hub whose every repository holds the files of `folder`, at commit SHA."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_POST(self) -> None:
            path, length = self.path.partition("?")[0], int(self.headers.get("Content-Length", 0))
            given = self.rfile.read(length)
            reply: dict[str, Any] = {"url": f"http://{self.headers['Host']}/some/model"}
            if path == "/api/validate-yaml":
                reply = {"warnings": [], "errors": []}
            elif "/preupload/" in path:
                names = [entry["path"] for entry in json.loads(given)["files"]]
                plain = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                reply = {"files": [{"path": name, **plain} for name in names]}
            elif "/commit/" in path:
                for line in given.decode().splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        content = base64.b64decode(entry["value"]["content"])
                        (folder / entry["value"]["path"]).write_bytes(content)
                reply = {"commitUrl": f"{reply['url']}/commit/{SHA}", "commitOid": SHA, "hookOutput": ""}
            self._send(200, json.dumps(reply).encode(), {"Content-Type": "application/json"}, body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/"):
                found = sorted(file for file in folder.rglob("*") if file.is_file())
                names = [file.relative_to(folder).as_posix() for file in found]
                sizes = [file.stat().st_size for file in found]
                tree = [
                    {
                        "type": "file",
                        "path": name,
                        "size": size,
                        "oid": hashlib.sha1(name.encode()).hexdigest(),
                    }
                    for name, size in zip(names, sizes, strict=True)
                ]
                info = {"id": "some/model", "sha": SHA, "siblings": [{"rfilename": name} for name in names]}
                listing = json.dumps(tree if "/tree/" in path else info).encode()
                self._send(200, listing, {"Content-Type": "application/json"}, body=body)
                return
            place = folder / path.partition(f"/resolve/{SHA}/")[2]
            if f"/resolve/{SHA}/" not in path or not place.is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
                return
            content = place.read_bytes()
            tag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": SHA}, body=body)

        def _send(self, code: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
