"""Plain HTTP without a client library's opinions, and the processes that the tests start."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


class Headers(dict):
    """Response headers under lower-case names; a repeated one is joined by commas."""

    @classmethod
    def of(cls, pairs) -> Headers:
        headers = cls()
        for name, value in pairs:
            name = name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def __missing__(self, name: str):
        raise KeyError(f"no header {name!r} in {sorted(self)}")


@dataclass
class Answer:
    method: str
    url: str
    status: int
    headers: Headers
    body: bytes
    cut: bool = False
    """The connection closed before Content-Length bytes had come."""

    def json(self):
        return json.loads(self.body)

    @property
    def location(self) -> str:
        return self.headers["location"]

    def __str__(self) -> str:
        return f"{self.method} {self.url} -> {self.status} {dict(self.headers)} {self.body[:300]!r}"

    __repr__ = __str__


def fetch(method: str, url: str, headers: dict | None = None, body: bytes | None = None, timeout: float = 20) -> Answer:
    """One request, nothing followed, nothing decoded, nothing added but Host and Content-Length."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        found = Headers.of(response.getheaders())
        try:
            return Answer(method, url, response.status, found, response.read())
        except http.client.IncompleteRead as error:
            return Answer(method, url, response.status, found, error.partial, cut=True)
        except ConnectionError:
            return Answer(method, url, response.status, found, b"", cut=True)
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def clean_environment(home: Path) -> dict[str, str]:
    """The environment without anything that could steer a client elsewhere."""
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("HF_", "HUGGING", "OLAH_")) and not k.lower().endswith("_proxy")
    }
    return env | {
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        # A busy machine is not a fault of the server.
        "HF_HUB_ETAG_TIMEOUT": "30",
        "HF_HUB_DOWNLOAD_TIMEOUT": "30",
    }


class Process:
    """A child process with its output kept in a file, ended with the test session."""

    def __init__(self, command: list[str], log: Path, cwd: Path, env: dict | None = None, stdout=None):
        self.log = log
        self._log = log.open("wb")
        self.child = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stdout or self._log,
            stderr=self._log,
        )

    def stop(self, sig: signal.Signals = signal.SIGTERM, patience: float = 5) -> int | None:
        """Asks the process to end; `None` if it had to be killed."""
        if self.child.poll() is None:
            self.child.send_signal(sig)
        try:
            return self.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            return None
        finally:
            self._log.close()

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


class Server(Process):
    """`hubprint hub serve`, up to the JSON line that says that it is ready."""

    def __init__(self, binary: Path, folder: Path, settings: Path, log: Path, overrides: list[str]):
        command = [str(binary), "hub", "serve", str(folder), "--port", "0", "--cdn-port", "0"]
        command += ["--settings", str(settings)]
        for item in overrides:
            command += ["--set", item]
        super().__init__(command, log, log.parent, stdout=subprocess.PIPE)
        self.lines: list[bytes] = []
        first: queue.Queue[bytes] = queue.Queue()

        def read() -> None:
            for line in self.child.stdout:
                self.lines.append(line)
                first.put(line)
            first.put(b"")

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()
        try:
            line = first.get(timeout=20)
            if not line:
                raise RuntimeError("it ended without saying that it is ready")
            ready = json.loads(line)
        except (queue.Empty, ValueError, RuntimeError) as error:
            self.stop()
            raise RuntimeError(f"{' '.join(command)}: {error!r}\n{self.said()}") from None
        self.hub: str = ready["hub"]
        self.cdn: str = ready["cdn"]

    def stop(self, sig: signal.Signals = signal.SIGTERM, patience: float = 5) -> int | None:
        code = super().stop(sig, patience)
        self._reader.join(5)
        return code

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, headers)

    def head(self, path: str, **headers: str) -> Answer:
        return self.send("HEAD", path, headers)

    def send(self, method: str, path: str, headers: dict | None = None, body: bytes | None = None) -> Answer:
        return fetch(method, self.hub + path, headers, body)

    def signed(self, repo_id: str, path: str, revision: str = "main", **headers: str) -> str:
        """The CDN address that a resolve with these headers gives."""
        answer = self.get(f"/{repo_id}/resolve/{revision}/{path}", **headers)
        assert answer.status == 302, answer
        return answer.location


class Olah(Process):
    """PyPI olah as a proxy in front of a hub, or offline over local git repositories."""

    def __init__(self, folder: Path, env: dict, server: Server | None = None, mirrors: Path | None = None, extra: list[str] = ()):
        folder.mkdir(parents=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        lines = ["[basic]", 'host = "127.0.0.1"', f"port = {port}", f'repos-path = "{folder / "repos"}"']
        lines += extra
        if server is not None:
            lines += ['hf-scheme = "http"', f'hf-netloc = "{urlsplit(server.hub).netloc}"']
            lines += [f'hf-lfs-netloc = "{urlsplit(server.cdn).netloc}"']
        if mirrors is not None:
            lines += [f'mirrors-path = ["{mirrors}"]', "[accessibility]", "offline = true"]
        config = folder / "olah.toml"
        config.write_text("\n".join(lines) + "\n")
        command = [str(Path(sys.executable).with_name("olah-cli")), "-c", str(config), "--log-path", str(folder / "logs")]
        super().__init__(command, folder / "olah.log", folder, env)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"olah did not start:\n{self.said()}") from None
                time.sleep(0.05)
