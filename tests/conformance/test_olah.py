"""PyPI olah as a proxy in front of the server, and huggingface_hub in front of olah (11.7.24).

olah asks in its own way (HEAD on /api/models and /revision/{sha}, form POSTs, ranged GETs on resolve
whose redirects it follows and then uses again), so it judges the server as a second client.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFolder

from client_checks import check_safetensors, check_snapshot, check_tree
from support import fetch


@pytest.fixture
def api(olah) -> HfApi:
    return HfApi(endpoint=olah.url, token=False)


@pytest.fixture
def download(olah, tmp_path):
    def run(repo_id: str, path: str, **kwargs) -> bytes:
        kwargs = {"endpoint": olah.url, "cache_dir": tmp_path / "cache", "token": False} | kwargs
        return Path(hf_hub_download(repo_id, path, **kwargs)).read_bytes()

    return run


def test_info(api, server, hub_folder):
    direct = HfApi(endpoint=server.hub, token=False).model_info("acme/tiny")
    for info in (api.model_info("acme/tiny"), api.model_info("acme/tiny", revision="main"), api.model_info("acme/tiny", revision=direct.sha)):
        assert (info.id, info.sha, info.tags) == ("acme/tiny", direct.sha, direct.tags)
        assert {s.rfilename for s in info.siblings} == set(hub_folder["acme/tiny"].files)
        assert info.safetensors == direct.safetensors


def test_tree(api, hub_folder):
    check_tree(api.list_repo_tree("acme/tiny", recursive=True), hub_folder["acme/tiny"], {"onnx", "onnx/sub"})
    assert {e.path for e in api.list_repo_tree("acme/tiny", "onnx")} == {"onnx/notes.txt", "onnx/sub"}
    for entry in api.list_repo_tree("acme/tiny", recursive=True, expand=True):
        assert entry.last_commit.oid


def test_paths_info(api, hub_folder):
    repo = hub_folder["acme/tiny"]
    found = api.get_paths_info("acme/tiny", ["config.json", "model.safetensors", "absent", "onnx"])
    assert [e.path for e in found] == ["config.json", "model.safetensors", "onnx"]
    assert isinstance(found[2], RepoFolder)
    assert (found[1].size, found[1].lfs.sha256) == (len(repo["model.safetensors"].data), repo["model.safetensors"].sha256)


@pytest.mark.parametrize("repo_id", ["acme/tiny", "acme/wide-header", "acme/sharded"])
def test_safetensors_metadata(api, hub_folder, repo_id):
    """Twice: from the server, then from olah's cache."""
    for _ in range(2):
        check_safetensors(api.get_safetensors_metadata(repo_id), hub_folder[repo_id])


@pytest.mark.parametrize("repo_id", ["acme/tiny", "acme/sharded"])
def test_snapshot_download(olah, hub_folder, tmp_path, repo_id):
    folder = snapshot_download(repo_id, endpoint=olah.url, cache_dir=tmp_path, token=False)
    check_snapshot(folder, hub_folder[repo_id])


def test_many_blocks_through_one_resolve(start_olah, server, hub_folder):
    """olah fetches a large file in blocks and re-uses the redirect of the first: that address is
    pinned to the first block's range, so it gets a 403, and must come through by resolving again."""
    place = start_olah(server=server, extra=["cache-block-size = '64KB'", "cache-chunk-size = '16KB'"])
    data = hub_folder["acme/wide-header"]["model.safetensors"].data
    answer = fetch("GET", f"{place.url}/acme/wide-header/resolve/main/model.safetensors")
    assert (answer.status, answer.body) == (200, data)
    blocks = [p for p in place.log.parent.rglob("blocks/*") if p.is_file() and not p.name.endswith(".lock")]
    assert len(blocks) == -(-len(data) // 65536) > 1, blocks


def test_ranges_without_redirects(olah, hub_folder):
    """A Hub of another kind: 206 at once, no X-Linked headers, no RateLimit."""
    data = hub_folder["acme/sharded"]["model-00001-of-00002.safetensors"].data
    url = f"{olah.url}/acme/sharded/resolve/main/model-00001-of-00002.safetensors"
    for a, b in [(0, 99), (8, 4095), (len(data) - 10, len(data) - 1)]:
        answer = fetch("GET", url, {"Range": f"bytes={a}-{b}"})
        assert (answer.status, answer.body) == (206, data[a : b + 1])
        assert not {"x-linked-etag", "ratelimit", "location"} & set(answer.headers)


def test_renamed(api, download, olah, hub_folder, tmp_path):
    repo = hub_folder["acme/renamed-new"]
    assert api.model_info("acme/renamed-old").id == repo.id
    check_tree(api.list_repo_tree("acme/renamed-old", recursive=True), repo, set())
    for path in ("config.json", "model.safetensors"):
        assert download("acme/renamed-old", path) == repo[path].data
    check_safetensors(api.get_safetensors_metadata("acme/renamed-old"), repo)
    check_snapshot(snapshot_download("acme/renamed-old", endpoint=olah.url, cache_dir=tmp_path / "s", token=False), repo)


def test_gated(api, download, hub_folder):
    """The token must reach the hub through the proxy and must not go on to the CDN, which would refuse it."""
    assert api.model_info("acme/gated").gated == "manual"
    repo = hub_folder["acme/gated"]
    for path in ("config.json", "model.safetensors"):
        for token in (False, "hf_garbage", "hf_nobody"):
            with pytest.raises(GatedRepoError):
                download(repo.id, path, token=token)
        assert download(repo.id, path, token="hf_reader") == repo[path].data


def test_missing(api, download):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/absent")
    with pytest.raises(RepositoryNotFoundError):
        list(api.list_repo_tree("acme/absent"))
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/tiny", revision="absent")
    with pytest.raises(RemoteEntryNotFoundError):
        download("acme/tiny", "absent.json")
    with pytest.raises(HfHubHTTPError):
        download("acme/absent", "config.json")
