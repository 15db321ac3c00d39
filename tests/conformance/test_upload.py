"""huggingface_hub as a client that writes: datasets are created, filled, changed, and read back."""

from __future__ import annotations

import json
import random
import signal

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError

REPO = "acme/prints"
LARGE = random.Random(1).randbytes(12_000_000)
CARD = "---\nlicense: mit\n---\n# Prints\n"


@pytest.fixture(autouse=True)
def without_xet(monkeypatch):
    """There is no Xet store behind the server; the client then uses git-lfs."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


class Written:
    """A server that may be written to, and clients of it."""

    def __init__(self, start, folder):
        self._settings = (f"write.folder={folder}", 'tokens.hf_writer=["write:acme"]')
        self._start = start
        self.again()

    def again(self):
        self.server = self._start(*self._settings)
        self.api = HfApi(endpoint=self.server.hub, token="hf_writer")

    def received(self) -> dict:
        return json.loads(self.server.get("/_hubprint/counters").body)["totals"]["received"]

    def download(self, path: str, cache, **kwargs) -> bytes:
        found = hf_hub_download(
            REPO, path, repo_type="dataset", endpoint=self.server.hub, token="hf_writer", cache_dir=cache, **kwargs
        )
        with open(found, "rb") as file:
            return file.read()


@pytest.fixture
def written(start, tmp_path) -> Written:
    return Written(start, tmp_path / "written")


@pytest.fixture
def folder(tmp_path):
    """A dataset as a program would leave it: a card, a table, something in a folder, something empty."""
    folder = tmp_path / "prints"
    (folder / "shards").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "manifest.json").write_text('{"version": 1}\n')
    (folder / "shards" / "0.parquet").write_bytes(LARGE)
    (folder / "shards" / "naïve file+1.txt").write_text("gefüllt\n")
    (folder / "empty.txt").write_bytes(b"")
    return folder


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_upload_folder_again_and_again(written, folder, tmp_path):
    api = written.api
    url = api.create_repo(REPO, repo_type="dataset", private=False)
    assert (url.repo_id, url.repo_type) == (REPO, "dataset")
    assert api.create_repo(REPO, repo_type="dataset", exist_ok=True).repo_id == REPO
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo(REPO, repo_type="dataset")
    assert refused.value.response.status_code == 409

    first = api.upload_folder(repo_id=REPO, repo_type="dataset", folder_path=folder, commit_message="Night 1")
    assert first.oid == api.dataset_info(REPO).sha
    everything = sum(len(content) for content in files(folder).values())
    assert written.received() == {"objects": 5, "bytes": everything, "commits": 1}

    # Nothing has changed: not a byte is sent, and no commit is made.
    again = api.upload_folder(repo_id=REPO, repo_type="dataset", folder_path=folder, commit_message="Night 1")
    assert again.oid == first.oid
    assert written.received() == {"objects": 5, "bytes": everything, "commits": 1}

    # One small file has changed, one large one is new, one is gone.
    (folder / "manifest.json").write_text('{"version": 2}\n')
    (folder / "shards" / "1.parquet").write_bytes(LARGE[:1_000_000])
    (folder / "shards" / "0.parquet").unlink()
    second = api.upload_folder(
        repo_id=REPO, repo_type="dataset", folder_path=folder, commit_message="Night 2", delete_patterns="shards/*"
    )
    assert written.received() == {"objects": 7, "bytes": everything + 15 + 1_000_000, "commits": 2}
    assert set(api.list_repo_files(REPO, repo_type="dataset")) == {".gitattributes", *files(folder)}

    # The content is known, so it is not sent again.
    (folder / "shards" / "0.parquet").write_bytes(LARGE)
    third = api.upload_folder(repo_id=REPO, repo_type="dataset", folder_path=folder, commit_message="Night 3")
    assert written.received() == {"objects": 7, "bytes": everything + 15 + 1_000_000, "commits": 3}

    commits = api.list_repo_commits(REPO, repo_type="dataset")
    assert [commit.title for commit in commits] == ["Night 3", "Night 2", "Night 1", "initial commit"]
    assert [commit.commit_id for commit in commits[:3]] == [third.oid, second.oid, first.oid]

    api.create_tag(REPO, tag="night-1", revision=first.oid, repo_type="dataset")
    api.create_tag(REPO, tag="night-1", revision=first.oid, repo_type="dataset", exist_ok=True)
    refs = api.list_repo_refs(REPO, repo_type="dataset")
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("night-1", first.oid)]

    for revision in [None, third.oid]:
        copy = tmp_path / f"copy-{revision}"
        snapshot_download(
            REPO, repo_type="dataset", revision=revision, endpoint=written.server.hub, token="hf_writer", local_dir=copy
        )
        found = {path: content for path, content in files(copy).items() if not path.startswith((".cache", ".gitattributes"))}
        assert found == files(folder)
    for revision in ["night-1", first.oid]:
        assert written.download("manifest.json", tmp_path / "cache", revision=revision) == b'{"version": 1}\n'
        assert written.download("shards/0.parquet", tmp_path / "cache", revision=revision) == LARGE


def test_create_commit_with_a_parent(written, tmp_path):
    api = written.api
    api.create_repo(REPO, repo_type="dataset")
    head = api.dataset_info(REPO).sha
    operations = [CommitOperationAdd("a.txt", b"a"), CommitOperationAdd("d/b.bin", b"b" * 1000)]
    made = api.create_commit(REPO, operations, commit_message="both", repo_type="dataset", parent_commit=head)
    with pytest.raises(HfHubHTTPError) as outrun:
        late = [CommitOperationAdd("c.txt", b"c")]
        api.create_commit(REPO, late, commit_message="late", repo_type="dataset", parent_commit=head)
    assert outrun.value.response.status_code == 412
    gone = [CommitOperationDelete("d/", is_folder=True)]
    api.create_commit(REPO, gone, commit_message="gone", repo_type="dataset", parent_commit=made.oid)
    assert api.list_repo_files(REPO, repo_type="dataset") == [".gitattributes", "a.txt"]
    with pytest.raises(EntryNotFoundError):
        api.create_commit(REPO, [CommitOperationDelete("d/b.bin")], commit_message="again", repo_type="dataset")
    info = api.get_paths_info(REPO, ["d/b.bin"], revision=made.oid, repo_type="dataset", expand=True)[0]
    assert (info.size, info.lfs.size, info.last_commit.title) == (1000, 1000, "both")


def test_a_killed_server_comes_back_with_the_last_commit(written, folder, tmp_path):
    written.api.create_repo(REPO, repo_type="dataset")
    made = written.api.upload_folder(repo_id=REPO, repo_type="dataset", folder_path=folder)
    written.server.stop(signal.SIGKILL)
    written.again()
    assert written.api.dataset_info(REPO).sha == made.oid
    assert written.download("shards/0.parquet", tmp_path / "cache") == LARGE


def test_who_may(written):
    written.api.create_repo(REPO, repo_type="dataset")
    who = written.api.whoami()
    assert who["auth"]["accessToken"]["role"] == "write"
    assert [org["name"] for org in who["orgs"]] == ["acme"]
    reader = HfApi(endpoint=written.server.hub, token="hf_reader")
    with pytest.raises(HfHubHTTPError) as refused:
        reader.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=REPO, repo_type="dataset")
    assert refused.value.response.status_code == 403
    stranger = HfApi(endpoint=written.server.hub, token=False)
    with pytest.raises(HfHubHTTPError) as refused:
        stranger.create_repo("acme/other", repo_type="dataset")
    assert refused.value.response.status_code == 401
    with pytest.raises(RepositoryNotFoundError):
        written.api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="acme/absent", repo_type="dataset")
