"""A small hub on this machine, which answers what huggingface_hub asks, as far as pushing and pulling go.

It keeps commits in memory, takes a large file only if its SHA-256 is as announced, and fails where a test asks it to.
What it cannot show: Xet, large files in parts, limits of rates and sizes, pages of long listings.
"""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITER, READER = "hf_writer", "hf_reader"  # tokens: one may write, one may only read
_SMALL = 10_000  # bytes from which text is kept as a large file too


@dataclass
class Repository:
    private: bool = False
    commits: dict = field(default_factory=lambda: {"0" * 40: {".gitattributes": (b"* text\n", False)}})
    branches: dict = field(default_factory=lambda: {"main": "0" * 40})
    messages: list = field(default_factory=list)


class StandIn(ThreadingHTTPServer):
    """The hub; `repositories` by (``datasets`` or ``models``, name), `requests` as (method, path)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories, self.large = {}, {}
        self.requests, self.ranges, self.failures = [], [], []
        self.turn = threading.Lock()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.behind = self.address.replace("127.0.0.1", "localhost")  # large files lie with another host
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def fail(self, method, part, how):
        """Let the next request of a method, whose path has a part, fail: by a status, or ``cut`` amid the answer."""
        self.failures.append((method, part, how))

    def files(self, kind, name, branch="main"):
        repository = self.repositories[kind, name]
        return {path: content for path, (content, _) in repository.commits[repository.branches[branch]].items()}

    def asked(self, method, part):
        return sum(asked == method and part in path for asked, path in self.requests)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        hub, url = self.server, urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.path, self.query = unquote(url.path), parse_qs(url.query)
        with hub.turn:
            hub.requests.append((self.command, self.path))
            failing = next((f for f in hub.failures if f[0] == self.command and f[1] in self.path), (None, "", None))
            if failing in hub.failures:
                hub.failures.remove(failing)
            self.cut = failing[2] == "cut"
            if isinstance(failing[2], int):
                return self.say(failing[2], {"error": "asked to fail"})
            return self.route(url.path.strip("/").split("/"))

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

    def say(self, status, content=b"", **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.cut else content)
        if self.cut:
            self.close_connection = True

    def refuse(self, status, code, words):
        self.say(status, {"error": words}, X_Error_Code=code, X_Error_Message=words)

    def route(self, parts):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in ("", WRITER, READER):
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        writes = self.command in ("POST", "PUT") and not self.path.endswith("yaml")
        if parts[0] == "store":  # behind addresses that only the hub gives
            return self.store(parts[1])
        if writes and token != WRITER:
            return self.refuse(401 if not token else 403, "", "you may not write here")
        if parts[:2] == ["api", "whoami-v2"]:
            return self.say(200, {"name": token}) if token else self.refuse(401, "", "Invalid username or password.")
        if parts[:2] == ["api", "validate-yaml"]:
            return self.check_card(json.loads(self.body)["content"])
        if parts[:3] == ["api", "repos", "create"]:
            return self.create(json.loads(self.body))
        if parts[0] == "api" and len(parts) < 4:
            return self.refuse(404, "", "this hub knows no such thing")
        if parts[0] == "api":
            kind, owner, name, *rest = parts[1:]
        else:
            kind, (owner, name, *rest) = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
        repository = self.server.repositories.get((kind, f"{owner}/{name.removesuffix('.git')}"))
        if repository is None or (repository.private and not token):
            return self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        self.page = f"{self.server.address}/{kind}/{owner}/{name}".replace("/models", "")
        what, *rest = rest or ["revision"]
        revision, *path = [unquote(each) for each in rest] or ["main"]
        if what == "info":
            return self.batch(json.loads(self.body))
        if what == "branch":
            there = revision in repository.branches
            repository.branches.setdefault(revision, repository.branches["main"])
            return self.say(409 if there else 200, {})
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repository.commits[commit]
        if what == "revision":
            return self.say(200, {"id": f"{owner}/{name}", "sha": commit, "private": repository.private})
        if what == "tree":
            return self.tree(files, "/".join(path), self.query.get("recursive") == ["true"])
        if what == "preupload":
            return self.modes(files, json.loads(self.body)["files"])
        if what == "commit":
            return self.commit(repository, revision, files)
        return self.resolve(files, commit, "/".join(path))

    def create(self, asked):
        key = (f"{asked['type']}s", f"{asked['organization']}/{asked['name']}")
        there = key in self.server.repositories
        self.server.repositories.setdefault(key, Repository(asked.get("visibility") == "private"))
        self.say(409 if there else 200, {"url": f"{self.server.address}/{key[0]}/{key[1]}"})

    def check_card(self, content):
        front = yaml.safe_load(content.split("---\n")[1])
        errors = [] if "license" in front else [{"message": "no license"}]
        self.say(400 if errors else 200, {"errors": errors, "warnings": []})

    def modes(self, files, asked):
        told = []
        for each in asked:
            large = each["size"] > _SMALL or b"\0" in base64.b64decode(each["sample"])
            mode = {"path": each["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            told.append(mode | ({"oid": _oid(*files[each["path"]])} if each["path"] in files else {}))
        self.say(200, {"files": told})

    def batch(self, asked):
        objects = []
        for each in asked["objects"]:
            to = {"href": f"{self.server.behind}/store/{each['oid']}"}
            there = each["oid"] in self.server.large
            objects.append({**each} if there else {**each, "actions": {"upload": to}})
        self.say(200, {"transfer": "basic", "objects": objects})

    def store(self, oid):
        if self.command != "PUT":
            return self.send_range(self.server.large[oid])
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.say(400, {"error": "the SHA-256 is another"})
        self.server.large[oid] = self.body
        return self.say(200)

    def commit(self, repository, branch, files):
        header, *lines = [json.loads(line) for line in self.body.splitlines()]
        files = dict(files)
        for key, value in ((line["key"], line["value"]) for line in lines):
            if key == "file":
                files[value["path"]] = (base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if len(self.server.large.get(value["oid"], b"")) != value["size"]:
                    return self.refuse(400, "", f"{value['path']} was not sent")
                files[value["path"]] = (self.server.large[value["oid"]], True)
            else:
                del files[value["path"]]
        commit = hashlib.sha1(f"{repository.branches[branch]}{len(repository.commits)}".encode()).hexdigest()
        repository.commits[commit], repository.branches[branch] = files, commit
        repository.messages.append(header["value"]["summary"])
        return self.say(200, {"commitUrl": f"{self.page}/commit/{commit}", "commitOid": commit})

    def tree(self, files, folder, recursive):
        below, entries = f"{folder}/" if folder else "", {}
        for path, (content, large) in sorted(files.items()):
            if path.startswith(below):
                parents = [each for each in accumulate(path.split("/"), "{}/{}".format) if each.startswith(below)]
                for parent in parents[:-1] if recursive else parents[:1]:
                    entries[parent] = {"type": "directory", "path": parent, "oid": "0" * 40, "size": 0}
                if recursive or len(parents) == 1:
                    entry = {"type": "file", "path": path, "oid": _blob(content, large), "size": len(content)}
                    entries[path] = entry | ({"lfs": _pointer(content)} if large else {})
        if folder and not entries:
            return self.refuse(404, "EntryNotFound", f"{folder} does not exist")
        return self.say(200, list(entries.values()))

    def resolve(self, files, commit, path):
        if path not in files:
            return self.refuse(404, "EntryNotFound", f"{path} does not exist")
        content, large = files[path]
        if not large:
            return self.send_range(content, ETag=f'"{_blob(content, False)}"', X_Repo_Commit=commit)
        oid = hashlib.sha256(content).hexdigest()
        linked = {"X_Linked_Etag": f'"{oid}"', "X_Linked_Size": len(content)}
        return self.say(302, b"", Location=f"{self.server.behind}/store/{oid}", X_Repo_Commit=commit, **linked)

    def send_range(self, content, **headers):
        asked = self.headers.get("Range")
        if asked is None:
            return self.say(200, content, **headers)
        self.server.ranges.append(asked)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
        if start >= len(content):
            return self.say(416, b"", **headers)
        told = f"bytes {start}-{stop - 1}/{len(content)}"
        return self.say(206, content[start:stop], Content_Range=told, **headers)


def _pointer(content):
    return {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}


def _blob(content, large):
    content = json.dumps(_pointer(content)).encode() if large else content
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _oid(content, large):
    return hashlib.sha256(content).hexdigest() if large else _blob(content, False)
