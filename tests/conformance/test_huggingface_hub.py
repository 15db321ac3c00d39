"""PyPI huggingface_hub against the server, each call as a user would make it (11.7.23).

hf_xet is installed and not switched off: by default the server must keep this client on plain HTTP.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    BadRequestError,
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import get_hf_file_metadata
from huggingface_hub.hf_api import RepoFile, RepoFolder
from huggingface_hub.utils._runtime import is_xet_available

from catalogue import ODD_NAME, Repo
from client_checks import check_infos, check_safetensors, check_snapshot, check_tree


@pytest.fixture
def api(server) -> HfApi:
    return HfApi(endpoint=server.hub, token=False)


@pytest.fixture
def download(server, tmp_path):
    def run(repo_id: str, path: str, **kwargs) -> Path:
        kwargs = {"endpoint": server.hub, "cache_dir": tmp_path / "cache", "token": False} | kwargs
        return Path(hf_hub_download(repo_id, path, **kwargs))

    return run


def test_xet_is_installed_and_not_used():
    """Without this the other tests would not prove that the server keeps Xet off."""
    assert is_xet_available()


class TestList:
    def ids(self, api, **kwargs) -> list[str]:
        return [m.id for m in api.list_models(**kwargs)]

    def test_all(self, api, hub_folder):
        found = self.ids(api)
        assert len(found) == len(set(found))
        assert set(found) | {"acme/disabled"} == hub_folder.ids()

    @pytest.mark.parametrize("sort", [None, "created_at", "last_modified", "downloads", "likes", "trending_score"])
    def test_paging(self, pages_of_three, api, sort):
        """Seven pages and more; the client follows `Link` on its own."""
        paged = self.ids(HfApi(endpoint=pages_of_three.hub, token=False), sort=sort)
        assert paged == self.ids(api, sort=sort)

    def test_limit_larger_than_a_page(self, pages_of_three):
        assert len(self.ids(HfApi(endpoint=pages_of_three.hub, token=False), limit=8)) == 8

    def test_waits_for_the_rate_limit(self, start, api, caplog):
        """On 429 the client sleeps t + 1 s and the pagination goes on."""
        limited = start("page_limit=3", "limits.api=4", "limits.window_seconds=3")
        before = time.monotonic()
        with caplog.at_level(logging.WARNING, logger="huggingface_hub"):
            found = self.ids(HfApi(endpoint=limited.hub, token=False), sort="created_at")
        assert found == self.ids(api, sort="created_at")
        assert "Rate limited. Waiting" in caplog.text
        assert time.monotonic() - before >= 1

    def test_survives_5xx(self, start, api, caplog):
        shaky = start("page_limit=4", "faults.error_5xx=0.25", "faults.seed=7")
        with caplog.at_level(logging.WARNING, logger="huggingface_hub"):
            assert self.ids(HfApi(endpoint=shaky.hub, token=False)) == self.ids(api)
        assert "HTTP Error 50" in caplog.text, "this seed must bring at least one"

    def test_filters(self, api, hub_folder):
        assert set(self.ids(api, author="zoo")) == hub_folder.ids(lambda r: r.id.startswith("zoo/"))
        assert set(self.ids(api, search="model-0")) == hub_folder.ids(lambda r: "model-0" in r.id)
        both = hub_folder.ids(lambda r: {"gguf", "license:mit"} <= set(r.hub["tags"]))
        assert both and set(self.ids(api, filter=["gguf", "license:mit"])) == both
        assert set(self.ids(api, filter="gguf")) == hub_folder.ids(lambda r: "gguf" in r.hub["tags"])
        assert set(self.ids(api, gated=True)) == {"acme/gated", "acme/gated-auto"}
        assert set(self.ids(api, pipeline_tag="text-generation")) == {"acme/tiny"}
        assert self.ids(api, trained_dataset="no-such-dataset") == []

    @pytest.mark.parametrize(("sort", "key"), [("created_at", "createdAt"), ("last_modified", "lastModified"),
                                               ("downloads", "downloads"), ("likes", "likes")])
    def test_sort(self, api, hub_folder, sort, key):
        values = [hub_folder[i].hub[key] for i in self.ids(api, sort=sort)]
        assert values == sorted(values, reverse=True)

    def test_default_fields(self, api, hub_folder):
        info = next(m for m in api.list_models() if m.id == "acme/tiny")
        hub = hub_folder["acme/tiny"].hub
        assert (info.downloads, info.likes) == (hub["downloads"], hub["likes"])
        assert set(hub["tags"]) <= set(info.tags), "the Hub adds tags of its own"
        assert (info.pipeline_tag, info.library_name) == (hub["pipeline_tag"], hub["library_name"])
        assert info.created_at == datetime.fromisoformat(hub["createdAt"].replace("Z", "+00:00"))
        assert info.private is False and info.siblings is None and info.base_models is None

    def test_full_and_config(self, api, hub_folder):
        info = next(m for m in api.list_models(full=True, fetch_config=True) if m.id == "acme/tiny")
        assert {s.rfilename for s in info.siblings} == set(hub_folder["acme/tiny"].files)
        assert info.author == "acme" and info.gated is False and len(info.sha) == 40
        assert info.config["model_type"] == "llama"
        assert info.last_modified > info.created_at

    def test_expand(self, api, hub_folder):
        fields = ["sha", "siblings", "safetensors", "config", "gated", "lastModified"]
        found = {m.id: m for m in api.list_models(expand=fields, author="acme")}
        assert set(found) | {"acme/disabled"} == hub_folder.ids(lambda r: r.id.startswith("acme/"))
        for repo_id, info in found.items():
            repo = hub_folder[repo_id]
            assert {s.rfilename for s in info.siblings} == set(repo.files)
            assert info.gated == repo.hub["gated"] and info.downloads is None
            assert (info.safetensors.parameters if info.safetensors else {}) == repo.parameters()

    def test_unknown_expand(self, api):
        with pytest.raises(BadRequestError, match="Invalid option"):
            list(api.list_models(expand=["nonsense"]))


class TestInfo:
    def test_model_info(self, api, hub_folder):
        repo = hub_folder["acme/tiny"]
        info = api.model_info("acme/tiny")
        assert (info.id, info.author, info.private, info.disabled, info.gated) == ("acme/tiny", "acme", False, False, False)
        assert info.config["architectures"] == ["LlamaForCausalLM"]
        assert info.safetensors.total == sum(repo.parameters().values())
        assert info.card_data is None or info.card_data.license == "mit"
        assert set(repo.hub["tags"]) <= set(info.tags)
        assert {s.rfilename for s in info.siblings} == set(repo.files)

    @pytest.mark.parametrize("revision", [None, "main"])
    def test_blobs(self, api, hub_folder, revision):
        repo = hub_folder["acme/tiny"]
        check_infos(api.model_info("acme/tiny", revision=revision, files_metadata=True), repo)

    def test_revision(self, api):
        sha = api.model_info("acme/tiny").sha
        assert api.model_info("acme/tiny", revision=sha).sha == sha
        assert api.model_info("acme/tiny", revision="main").sha == sha

    def test_expand(self, api):
        info = api.model_info("acme/tiny", expand=["sha", "gated", "safetensors", "baseModels", "childrenModelCount", "usedStorage"])
        assert len(info.sha) == 40 and info.gated is False and info.siblings is None

    def test_missing_over_plain_http(self, api):
        """The bare 401 is the faithful answer; the client knows it as a missing repository only over https."""
        for repo_id in ("acme/absent", "acme/private"):
            with pytest.raises(HfHubHTTPError) as caught:
                api.model_info(repo_id)
            assert not isinstance(caught.value, RepositoryNotFoundError)
            assert caught.value.response.status_code == 401
            assert "Invalid username or password." in str(caught.value)

    def test_missing_with_the_switch(self, start):
        api = HfApi(endpoint=start("behaviour.error_code_on_missing=true").hub, token=False)
        with pytest.raises(RepositoryNotFoundError) as caught:
            api.model_info("acme/absent")
        assert not isinstance(caught.value, GatedRepoError)
        assert api.repo_exists("acme/absent") is False and api.repo_exists("acme/tiny") is True

    def test_missing_with_a_token(self, api):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("acme/absent", token="hf_nobody")

    def test_revision_not_found(self, api):
        for revision in ("absent", "refs/pr/1"):
            with pytest.raises(RevisionNotFoundError):
                api.model_info("acme/tiny", revision=revision)
        assert api.revision_exists("acme/tiny", "main") and not api.revision_exists("acme/tiny", "absent")

    def test_renamed(self, api):
        info = api.model_info("acme/renamed-old", files_metadata=True)
        assert info.id == "acme/renamed-new"
        assert info.siblings[0].blob_id, "the query was kept"

    def test_gated(self, api):
        assert api.model_info("acme/gated").gated == "manual"
        assert api.model_info("acme/gated-auto").gated == "auto"

    def test_disabled(self, api):
        assert api.model_info("acme/disabled").disabled is True


class TestTree:
    def test_recursive(self, api, hub_folder):
        check_tree(api.list_repo_tree("acme/tiny", recursive=True), hub_folder["acme/tiny"], {"onnx", "onnx/sub"})

    def test_levels(self, api):
        assert {e.path for e in api.list_repo_tree("acme/tiny") if isinstance(e, RepoFolder)} == {"onnx"}
        assert {e.path for e in api.list_repo_tree("acme/paths", "a/b")} == {"a/b/c", "a/b/model.bin"}

    def test_expand(self, api):
        for entry in api.list_repo_tree("acme/tiny", recursive=True, expand=True):
            assert entry.last_commit.oid and isinstance(entry.last_commit.date, datetime)
            if isinstance(entry, RepoFile):
                assert entry.security.status

    def test_expand_pages(self, api, hub_folder):
        check_tree(api.list_repo_tree("acme/many", recursive=True, expand=True), hub_folder["acme/many"], {"part"})

    def test_revision_and_rename(self, api, hub_folder):
        sha = api.model_info("acme/renamed-new").sha
        entries = api.list_repo_tree("acme/renamed-old", revision=sha, recursive=True)
        check_tree(entries, hub_folder["acme/renamed-new"], set())
        assert set(api.list_repo_files("acme/paths")) == set(hub_folder["acme/paths"].files)

    def test_errors(self, api):
        with pytest.raises(RevisionNotFoundError):
            list(api.list_repo_tree("acme/tiny", revision="absent"))
        with pytest.raises(RemoteEntryNotFoundError):
            list(api.list_repo_tree("acme/tiny", "absent"))
        with pytest.raises(HfHubHTTPError):
            list(api.list_repo_tree("acme/absent"))

    def test_paths_info(self, api, hub_folder):
        repo = hub_folder["acme/tiny"]
        found = api.get_paths_info("acme/tiny", ["config.json", "model.safetensors", "absent", "onnx"])
        assert {type(e) for e in found if e.path == "onnx"} == {RepoFolder}
        check_tree(found, Repo(repo.id, repo.hub, {p: repo[p] for p in ("config.json", "model.safetensors")}), {"onnx"})
        (one,) = api.get_paths_info("acme/tiny", "model.safetensors", expand=True)
        assert one.lfs.sha256 == repo["model.safetensors"].sha256 and one.last_commit.oid and one.security.status
        assert api.get_paths_info("acme/tiny", ["absent"]) == []
        assert [e.path for e in api.get_paths_info("acme/paths", [ODD_NAME])] == [ODD_NAME]
        with pytest.raises(RevisionNotFoundError):
            api.get_paths_info("acme/tiny", ["config.json"], revision="absent")


class TestDownload:
    @pytest.mark.parametrize("path", ["config.json", "model.safetensors", "onnx/sub/model.onnx"])
    def test_bytes_and_cache(self, download, api, hub_folder, path):
        file = hub_folder["acme/tiny"][path]
        found = download("acme/tiny", path)
        assert found.read_bytes() == file.data
        sha = api.model_info("acme/tiny").sha
        assert found.as_posix().endswith(f"snapshots/{sha}/{path}")
        assert found.resolve().name == file.etag, "the blob is named by git's sha1 or by the sha256"

    @pytest.mark.parametrize("path", [ODD_NAME, "empty.txt", "a/b/c/deep.json", "a/b/model.bin"])
    def test_odd_paths(self, download, hub_folder, path):
        assert download("acme/paths", path).read_bytes() == hub_folder["acme/paths"][path].data

    def test_metadata(self, server, api, hub_folder):
        sha = api.model_info("acme/tiny").sha
        for path in ("config.json", "model.safetensors"):
            file = hub_folder["acme/tiny"][path]
            meta = get_hf_file_metadata(hf_hub_url("acme/tiny", path, endpoint=server.hub), token=False)
            assert (meta.commit_hash, meta.etag, meta.size) == (sha, file.etag, len(file.data))
            assert meta.xet_file_data is None
            assert meta.location.startswith(server.cdn if file.is_lfs else server.hub)

    def test_xet_would_be_noticed(self, start):
        """The proof that the default is what keeps this client on HTTP: with the switch it leaves it."""
        url = hf_hub_url("acme/tiny", "model.safetensors", endpoint=start("behaviour.xet=true").hub)
        assert get_hf_file_metadata(url, token=False).xet_file_data is not None

    def test_resumes_truncated_bodies(self, start, download, hub_folder, caplog):
        """The client asks again from the byte it stands at, with the same signed address."""
        shaky = start("faults.truncate=0.5", "faults.seed=7")
        for path in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
            with caplog.at_level(logging.WARNING, logger="huggingface_hub"):
                found = download("acme/sharded", path, endpoint=shaky.hub)
            assert found.read_bytes() == hub_folder["acme/sharded"][path].data
        assert "Trying to resume download" in caplog.text, "this seed must cut at least one"

    def test_renamed(self, download, hub_folder):
        for path in ("config.json", "model.safetensors"):
            assert download("acme/renamed-old", path).read_bytes() == hub_folder["acme/renamed-new"][path].data

    def test_gated(self, download, hub_folder):
        repo = hub_folder["acme/gated"]
        for path in ("config.json", "model.safetensors"):
            for token in (False, "hf_garbage", "hf_nobody"):
                with pytest.raises(GatedRepoError) as caught:
                    download("acme/gated", path, token=token)
                assert caught.value.response.status_code == (403 if token == "hf_nobody" else 401)
            # The CDN refuses an Authorization header, so this proves that none was sent there.
            assert download("acme/gated", path, token="hf_reader").read_bytes() == repo[path].data

    def test_entry_not_found_is_remembered(self, download, api, tmp_path):
        with pytest.raises(RemoteEntryNotFoundError):
            download("acme/tiny", "absent.json")
        sha = api.model_info("acme/tiny").sha
        assert (tmp_path / f"cache/models--acme--tiny/.no_exist/{sha}/absent.json").exists()

    def test_other_errors(self, download, server, start):
        with pytest.raises(RevisionNotFoundError):
            download("acme/tiny", "config.json", revision="absent")
        with pytest.raises(HfHubHTTPError) as caught:
            download("acme/absent", "config.json")
        assert not isinstance(caught.value, RepositoryNotFoundError)
        with pytest.raises(RepositoryNotFoundError):
            download("acme/absent", "config.json", endpoint=start("behaviour.error_code_on_missing=true").hub)
        with pytest.raises(LocalEntryNotFoundError) as local:
            download("acme/disabled", "config.json")
        assert isinstance(local.value.__cause__, DisabledRepoError)
        with pytest.raises(DisabledRepoError):
            get_hf_file_metadata(hf_hub_url("acme/disabled", "model.safetensors", endpoint=server.hub), token=False)

    @pytest.mark.parametrize("repo_id", ["acme/tiny", "acme/sharded", "acme/paths", "acme/renamed-new", "acme/many"])
    def test_snapshot(self, server, hub_folder, tmp_path, repo_id):
        folder = snapshot_download(repo_id, endpoint=server.hub, cache_dir=tmp_path, token=False)
        check_snapshot(folder, hub_folder[repo_id])

    def test_snapshot_of_a_renamed_and_a_gated_one(self, server, hub_folder, tmp_path):
        options = {"endpoint": server.hub, "cache_dir": tmp_path}
        check_snapshot(snapshot_download("acme/renamed-old", token=False, **options), hub_folder["acme/renamed-new"])
        check_snapshot(snapshot_download("acme/gated", token="hf_reader", **options), hub_folder["acme/gated"])
        with pytest.raises(GatedRepoError):
            snapshot_download("acme/gated-auto", token=False, **options)

    def test_command_line_with_hf_endpoint(self, server, hub_folder, tmp_path):
        """The way most people come: HF_ENDPOINT and `hf download`."""
        command = [Path(sys.executable).with_name("hf"), "download", "acme/tiny", "--local-dir", tmp_path / "out"]
        env = os.environ | {"HF_ENDPOINT": server.hub, "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        check_snapshot(tmp_path / "out", hub_folder["acme/tiny"])

    def test_file_system_reads_ranges(self, server, hub_folder):
        """fsspec sends a Range on resolve for every block, so each address is pinned and used once."""
        data = hub_folder["acme/wide-header"]["model.safetensors"].data
        fs = HfFileSystem(endpoint=server.hub, token=False, skip_instance_cache=True)
        with fs.open("acme/wide-header/model.safetensors", "rb", block_size=50_000) as file:
            assert file.size == len(data)
            for start, size in [(0, 8), (120_000, 30_000), (len(data) - 100, 100), (8, 1000)]:
                file.seek(start)
                assert file.read(size) == data[start : start + size]


class TestSafetensors:
    @pytest.mark.parametrize("repo_id", ["acme/tiny", "acme/wide-header", "acme/sharded", "acme/renamed-new"])
    def test_metadata(self, api, hub_folder, repo_id):
        check_safetensors(api.get_safetensors_metadata(repo_id), hub_folder[repo_id])

    def test_renamed_and_gated(self, api, hub_folder):
        check_safetensors(api.get_safetensors_metadata("acme/renamed-old"), hub_folder["acme/renamed-new"])
        with pytest.raises(GatedRepoError):
            api.get_safetensors_metadata("acme/gated")
        check_safetensors(api.get_safetensors_metadata("acme/gated", token="hf_reader"), hub_folder["acme/gated"])

    def test_none(self, api):
        with pytest.raises(NotASafetensorsRepoError):
            api.get_safetensors_metadata("acme/paths")
