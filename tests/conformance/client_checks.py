"""What huggingface_hub must have understood, the same whether it asked the server or asked through olah."""

from __future__ import annotations

from math import prod
from pathlib import Path

from huggingface_hub.hf_api import ModelInfo, RepoFile, RepoFolder

from catalogue import Repo


def check_infos(info: ModelInfo, repo: Repo) -> None:
    """`model_info(files_metadata=True)`"""
    siblings = {s.rfilename: s for s in info.siblings}
    assert set(siblings) == set(repo.files)
    for path, file in repo.files.items():
        assert (siblings[path].size, siblings[path].blob_id) == (len(file.data), file.blob_id), path
        check_lfs(siblings[path].lfs, file)


def check_tree(entries, repo: Repo, folders: set[str]) -> None:
    entries = list(entries)
    assert {e.path for e in entries if isinstance(e, RepoFolder)} == folders
    found = {e.path: e for e in entries if isinstance(e, RepoFile)}
    assert set(found) == set(repo.files)
    for path, file in repo.files.items():
        assert (found[path].size, found[path].blob_id) == (len(file.data), file.blob_id), path
        check_lfs(found[path].lfs, file)


def check_lfs(lfs, file) -> None:
    if file.is_lfs:
        assert (lfs.sha256, lfs.size, lfs.pointer_size) == (file.sha256, len(file.data), len(file.pointer))
    else:
        assert lfs is None


def check_snapshot(folder: str | Path, repo: Repo) -> None:
    folder = Path(folder)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {p for p in found if not p.startswith(".cache/")} == set(repo.files)
    for path, file in repo.files.items():
        assert (folder / path).read_bytes() == file.data, path


def check_safetensors(metadata, repo: Repo) -> None:
    weights = [p for p in repo.files if p.endswith(".safetensors")]
    assert set(metadata.files_metadata) == set(weights)
    assert metadata.sharded == (len(weights) > 1)
    for path in weights:
        tensors = repo.weight(path)
        found = metadata.files_metadata[path].tensors
        assert set(found) == set(tensors)
        for name, tensor in tensors.items():
            info = found[name]
            assert (info.dtype, info.shape, list(info.data_offsets)) == (tensor["dtype"], tensor["shape"], tensor["data_offsets"])
            assert info.parameter_count == prod(tensor["shape"])
            assert metadata.weight_map[name] == path
    assert metadata.parameter_count == repo.parameters()
