"""A loopback server that speaks as much of the Hub's protocol as uploading and loading need.

It shows that the client and this server agree, not how the real Hub behaves.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """Dataset repositories in memory: every commit replaces the tree of ``main``."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads = 0
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def revision(self, name: str) -> str:
        """A name for the current tree, as a commit's."""
        tree = {path: digest(data) for path, data in sorted(self.repositories[name].items())}
        return hashlib.sha1(json.dumps(tree).encode()).hexdigest()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: Any) -> None:
        pass

    def reply(self, value: Any, status: int = 200) -> None:
        self.send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def send(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_PUT(self) -> None:
        self.hub.objects[self.path.rpartition("/")[2]] = self.body()
        self.hub.uploads += 1
        self.reply({})

    def do_POST(self) -> None:
        data = self.body()
        if self.path == "/api/repos/create":
            request = json.loads(data)
            name = "/".join(filter(None, (request.get("organization"), request["name"])))
            known = name in self.hub.repositories
            self.hub.repositories.setdefault(name, {})
            self.reply({"url": f"{self.hub.url}/datasets/{name}"}, 409 if known else 200)
        elif self.path == "/api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/preupload/main", self.path):
            self.reply({"files": [self.mode(f) for f in json.loads(data)["files"]]})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            self.reply({"transfer": "basic", "objects": self.batch(json.loads(data))})
        elif match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/commit/main", self.path):
            self.commit(match[1], [json.loads(line) for line in data.splitlines()])
        else:
            self.reply({"error": "not here"}, 404)

    def mode(self, file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith(".parquet")
        return {
            "path": file["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
        }

    def batch(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = request["objects"]
        for entry in wanted:
            if entry["oid"] not in self.hub.objects:
                url = f"{self.hub.url}/objects/{entry['oid']}"
                entry["actions"] = {"upload": {"href": url}}
        return wanted

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        tree = self.hub.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                data = self.hub.objects[value["oid"]]
                assert digest(data) == value["oid"]
                tree[value["path"]] = data
            elif line["key"] == "deletedFile":
                del tree[value["path"]]
        sha = self.hub.revision(name)
        url = f"{self.hub.url}/datasets/{name}/commit/{sha}"
        self.reply({"commitUrl": url, "commitOid": sha, "success": True})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self.file(match[1], match[2].replace("%2F", "/"))
            return
        match = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/revision/[^/]+|/tree/.*)?", path)
        if not match or match[1] not in self.hub.repositories:
            self.send(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
        elif (match[2] or "").startswith("/tree/"):
            self.tree(match[1], match[2].split("/", 3)[3:])
        else:
            tree = self.hub.repositories[match[1]]
            files = [{"rfilename": name} for name in sorted(tree)]
            sha = self.hub.revision(match[1])
            self.reply({"id": match[1], "sha": sha, "siblings": files, "private": False})

    def tree(self, name: str, below: list[str]) -> None:
        start = f"{below[0].replace('%2F', '/')}/" if below and below[0] else ""
        tree = self.hub.repositories[name]
        entries: list[dict[str, Any]] = [
            {"type": "file", "path": path, "size": len(data), "oid": digest(data)}
            for path, data in sorted(tree.items())
            if path.startswith(start)
        ]
        folders = {path.rpartition("/")[0] for path in tree if "/" in path} - {start[:-1]}
        entries += [{"type": "directory", "path": path, "oid": ""} for path in sorted(folders)]
        if "recursive=True" not in self.path and "recursive=true" not in self.path:
            entries = [e for e in entries if "/" not in e["path"].removeprefix(start)]
        self.reply(entries)

    def file(self, name: str, path: str) -> None:
        tree = self.hub.repositories.get(name, {})
        if path not in tree:
            self.send(b"", 404, {"X-Error-Code": "EntryNotFound"})
            return
        data, status = tree[path], 200
        headers = {"X-Repo-Commit": self.hub.revision(name), "ETag": f'"{digest(data)}"'}
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(match[1]), int(match[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        self.send(data, status, headers)
