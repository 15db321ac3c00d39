"""hubprint's own crawler through olah, a Hub that behaves differently (11.7.24 and 11.7.25).

Proxy: always 200 or 206 itself, no redirects, no X-Linked headers, no RateLimit headers, no list route.
Offline over local git repositories: the files are there, but GET ignores Range.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from catalogue import CONFIG, File
from support import fetch

BIG_REPO = "acme/offline"
BIG_SIZE = 16 << 20


@pytest.fixture(scope="session")
def crawler(binary) -> Path:
    done = subprocess.run([binary, "crawl", "--help"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode == 2 and "unrecognized subcommand" in done.stderr:
        pytest.skip("this hubprint has no crawl command yet")
    return binary


@pytest.fixture
def crawl(crawler, tmp_path):
    def run(hub: str, *repos: str, token: str | None = None) -> tuple[int, dict, str]:
        command = [crawler, "crawl", "--hub", hub, "--db", tmp_path / "db", "--json"]
        for repo in repos:
            command += ["--repo", repo]
        env = os.environ | ({"HF_TOKEN": token} if token else {})
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=100, stdin=subprocess.DEVNULL)
        return done.returncode, report(done.stdout), f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"

    return run


def report(stdout: str) -> dict:
    """The object with `outcomes`: the whole of stdout, or one of its lines."""
    for text in [stdout, *reversed(stdout.splitlines())]:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict) and "outcomes" in value:
            return value
    raise AssertionError(f"no JSON report on stdout:\n{stdout}")


def test_crawls_through_the_proxy(crawl, olah):
    code, found, said = crawl(olah.url, "acme/tiny", "acme/wide-header", "acme/sharded")
    assert found["outcomes"].get("indexed") == 3, said
    assert sum(found["outcomes"].values()) == 3, said
    assert code == 0, said


def test_same_as_directly(crawl, server):
    """The same three repositories, straight from the server: the same outcomes."""
    code, found, said = crawl(server.hub, "acme/tiny", "acme/wide-header", "acme/sharded")
    assert (code, found["outcomes"]) == (0, {"indexed": 3}), said


def test_other_outcomes_through_the_proxy(crawl, olah):
    code, found, said = crawl(olah.url, "acme/tiny", "acme/renamed-old", "acme/gated", "acme/absent")
    assert found["outcomes"].get("indexed") == 2, said
    assert sum(found["outcomes"].values()) == 4, "no repository is lost silently: " + said
    assert code == 1, said


def test_gated_with_a_token_through_the_proxy(crawl, olah):
    code, found, said = crawl(olah.url, "acme/gated", token="hf_reader")
    assert (code, found["outcomes"].get("indexed")) == (0, 1), said


class TestOffline:
    """olah offline over a git repository with LFS, written here with git plumbing (git-lfs is not needed)."""

    @pytest.fixture(scope="class")
    @classmethod
    def offline(cls, start_olah, tmp_path_factory):
        mirrors = tmp_path_factory.mktemp("mirrors")
        repo = mirrors / "models" / BIG_REPO
        repo.mkdir(parents=True)
        side = 1024  # four square projections of 4 MiB
        tensors = {
            f"model.layers.0.self_attn.{name}_proj.weight": np.ones((side, side), dtype=np.float32) for name in "qkvo"
        }
        weight = File("model.safetensors", save(tensors))
        store = repo / ".git" / "lfs" / "objects" / weight.sha256[:2] / weight.sha256[2:4]
        git(repo, "init", "--quiet", "--initial-branch=main")
        store.mkdir(parents=True)
        (store / weight.sha256).write_bytes(weight.data)
        (repo / "model.safetensors").write_bytes(weight.pointer)
        (repo / "config.json").write_bytes(CONFIG)
        (repo / "README.md").write_text("offline\n")
        git(repo, "add", ".")
        git(repo, "commit", "--quiet", "--message", "weights")
        return start_olah(mirrors=mirrors)

    def test_it_ignores_ranges(self, offline):
        """What makes this peer worth having; if it fails, olah has changed and not hubprint."""
        base = f"{offline.url}/api/models/{BIG_REPO}"
        info = fetch("GET", f"{base}/revision/main")
        assert info.status == 200 and info.json()["id"] == BIG_REPO
        assert fetch("GET", base).status == 401
        assert fetch("GET", f"{base}/tree/main").status == 307
        tree = {e["path"]: e for e in fetch("GET", f"{base}/tree/main/").json()}
        assert tree["model.safetensors"]["lfs"]["size"] > BIG_SIZE
        url = f"{offline.url}/{BIG_REPO}/resolve/main/model.safetensors"
        assert int(fetch("HEAD", url).headers["content-length"]) > BIG_SIZE
        answer = fetch("GET", url, {"Range": "bytes=0-99"})
        assert answer.status == 200 and len(answer.body) > BIG_SIZE

    def test_the_crawler_stops_reading(self, crawl, offline):
        """With a revision, because this olah answers the plain info route with 401."""
        code, found, said = crawl(offline.url, f"{BIG_REPO}@main")
        assert code == 1, said
        assert found["outcomes"].get("indexed", 0) == 0, said
        assert sum(found["outcomes"].values()) == 1, said
        assert "missing" not in found["outcomes"], "it never came to the weights: " + said
        for counter in ("bytes_fetched", "bytes_received"):
            assert found[counter] < BIG_SIZE // 8, said
        assert found["ranges_ignored"] > 0, said


def git(folder: Path, *arguments: str) -> None:
    identity = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
                for what, value in (("NAME", "nobody"), ("EMAIL", "nobody@example.org"), ("DATE", "2024-05-01T12:00:00Z"))}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *arguments], cwd=folder, env=os.environ | identity | alone, check=True, stdin=subprocess.DEVNULL)
