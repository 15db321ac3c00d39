"""The folder that the servers under test serve, written from nothing by numpy and safetensors.

`build(folder)` writes it and returns a `Catalogue`, which knows every byte and every digest, so
the tests compare the server's word with values that Python worked out on its own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from safetensors.numpy import save

LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".onnx", ".pt", ".h5", ".msgpack")

# Repositories created before the Hub kept dates share this one; among them `_id` decides.
LEGACY_DATE = "2022-03-02T23:29:04.000Z"

ODD_NAME = "docs/naïve file+1 (v2).txt"


@dataclass(frozen=True)
class File:
    """One file of a repository, and what git and LFS call it."""

    path: str
    data: bytes

    @property
    def is_lfs(self) -> bool:
        return self.path.endswith(LFS_SUFFIXES)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{self.sha256}\nsize {len(self.data)}\n"
        ).encode()

    @property
    def blob_id(self) -> str:
        """Git's sha1 of what git stores: the file, or the LFS pointer in its place."""
        stored = self.pointer if self.is_lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.blob_id


@dataclass
class Repo:
    id: str
    hub: dict
    files: dict[str, File] = field(default_factory=dict)

    @property
    def created(self) -> str:
        return self.hub["createdAt"]

    def __getitem__(self, path: str) -> File:
        return self.files[path]

    def weight(self, path: str) -> dict[str, dict]:
        """The tensors of a safetensors file as its own header lists them."""
        data = self.files[path].data
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        return header

    def parameters(self) -> dict[str, int]:
        """Stored elements per dtype, over all safetensors files."""
        total: dict[str, int] = {}
        for path in self.files:
            if path.endswith(".safetensors"):
                for tensor in self.weight(path).values():
                    n = int(np.prod(tensor["shape"], dtype=np.int64))
                    total[tensor["dtype"]] = total.get(tensor["dtype"], 0) + n
        return total


@dataclass
class Catalogue:
    folder: Path
    repos: dict[str, Repo]

    def __getitem__(self, repo_id: str) -> Repo:
        return self.repos[repo_id]

    def listed(self) -> list[Repo]:
        """What an anonymous listing must hold: everything but the private repository."""
        return [r for r in self.repos.values() if not r.hub.get("private")]

    def ids(self, keep=lambda repo: True) -> set[str]:
        return {r.id for r in self.listed() if keep(r)}


RENAMES = {"acme/renamed-old": "acme/renamed-new", "legacy-tiny": "acme/tiny"}


def build(folder: Path) -> Catalogue:
    """Writes the hub folder and returns what it holds."""
    repos: dict[str, Repo] = {}
    start = datetime(2024, 5, 1, 12, 0, tzinfo=timezone.utc)

    def add(repo_id: str, files: dict[str, bytes], **hub) -> None:
        day = start + timedelta(days=len(repos))
        # Creation goes one way, modification the other, so that the two sorts differ.
        modified = start + timedelta(days=500 - 3 * len(repos), hours=1)
        settings = {
            "createdAt": stamp(day),
            "lastModified": stamp(modified),
            "gated": False,
            "disabled": False,
            "private": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "pipeline_tag": None,
            "library_name": None,
        } | hub
        settings = {k: v for k, v in settings.items() if v is not None}
        repos[repo_id] = Repo(repo_id, settings, {p: File(p, d) for p, d in files.items()})

    add(
        "acme/tiny",
        {
            "README.md": README,
            "config.json": CONFIG,
            "tokenizer.json": compact({"version": "1.0", "model": {"type": "BPE", "vocab": {}}}),
            "model.safetensors": weights(1, llama(32, 64, layers=2) | {"steps": ()}),
            "onnx/sub/model.onnx": bytes(range(256)) * 17,
            "onnx/notes.txt": b"exported twice\n",
        },
        downloads=900,
        likes=12,
        tags=["transformers", "safetensors", "license:mit", "base_model:acme/base", "region:us"],
        pipeline_tag="text-generation",
        library_name="transformers",
    )
    add("acme/wide-header", wide_header(), downloads=40, tags=["safetensors", "license:mit"])
    add("acme/sharded", sharded(), downloads=300, tags=["safetensors", "license:apache-2.0"])
    add("acme/gated", small(4), gated="manual", downloads=200, tags=["safetensors"])
    add("acme/gated-auto", small(5), gated="auto", downloads=200, tags=["safetensors"])
    add("acme/renamed-new", small(6), downloads=40, tags=["safetensors", "license:mit"])
    add("acme/disabled", small(7), disabled=True, tags=["safetensors"])
    add("acme/private", small(8), private=True, tags=["safetensors"])
    add(
        "acme/paths",
        {
            "README.md": b"odd names\n",
            "empty.txt": b"",
            ODD_NAME: "gefüllt\n".encode(),
            "a/b/c/deep.json": b"{}\n",
            "a/b/model.bin": b"\x80\x02" + bytes(5000),
        },
    )
    add("acme/many", {f"part/{i:03}.txt": b"%d\n" % i for i in range(120)} | {"README.md": b"-\n"})
    for i in range(12):
        add(
            f"zoo/model-{i:02}",
            {"config.json": CONFIG, "README.md": b"# %d\n" % i},
            # Ties on both sort keys, so that the second key of the order is put to the test.
            createdAt=LEGACY_DATE if i < 6 else stamp(start + timedelta(days=100 + i)),
            downloads=[7, 7, 7, 5, 5, 3][i % 6],
            likes=i,
            tags=["license:mit" if i % 2 else "license:apache-2.0"] + (["gguf"] if i % 3 == 0 else []),
            pipeline_tag="feature-extraction" if i % 4 == 0 else None,
        )

    for repo in repos.values():
        base = folder / "models" / repo.id
        for file in repo.files.values():
            path = base / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
        (base / ".hub.json").write_text(json.dumps(repo.hub))
    (folder / "hub.json").write_text(json.dumps({"renames": RENAMES}))
    return Catalogue(folder, repos)


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def compact(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def weights(seed: int, shapes: dict[str, tuple]) -> bytes:
    """A safetensors file of F32 tensors; a tensor without dimensions is an I64."""
    random = np.random.default_rng(seed)
    tensors = {
        name: random.standard_normal(shape, dtype=np.float32) if shape else np.array(7, dtype=np.int64)
        for name, shape in shapes.items()
    }
    return save(tensors, metadata={"format": "pt"})


def llama(width: int, vocabulary: int, layers: int) -> dict[str, tuple]:
    """Tensor names and shapes of a small Llama, so that our own crawler finds the roles it knows."""
    shapes = {"model.embed_tokens.weight": (vocabulary, width)}
    for i in range(layers):
        layer = f"model.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{layer}.self_attn.{name}.weight"] = (width, width)
        shapes[f"{layer}.mlp.gate_proj.weight"] = (2 * width, width)
        shapes[f"{layer}.mlp.up_proj.weight"] = (2 * width, width)
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, 2 * width)
        shapes[f"{layer}.input_layernorm.weight"] = (width,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def small(seed: int) -> dict[str, bytes]:
    return {
        "README.md": b"---\nlicense: mit\n---\n",
        "config.json": CONFIG,
        "model.safetensors": weights(seed, llama(16, 48, layers=1)),
    }


def wide_header() -> dict[str, bytes]:
    """One weight file whose header is some 225 KB: more than the client's first 100,001 bytes."""
    data = weights(2, llama(4, 8, layers=260))
    size = int.from_bytes(data[:8], "little")
    assert 200_000 < size < 260_000, size
    return {"README.md": b"wide\n", "config.json": CONFIG, "model.safetensors": data}


def sharded() -> dict[str, bytes]:
    whole = llama(64, 128, layers=2)
    first = {n: s for n, s in whole.items() if ".layers.1." not in n and n != "lm_head.weight"}
    shards = {
        "model-00001-of-00002.safetensors": first,
        "model-00002-of-00002.safetensors": {n: s for n, s in whole.items() if n not in first},
    }
    files = {name: weights(3 + i, shapes) for i, (name, shapes) in enumerate(shards.items())}
    weight_map = {tensor: name for name, shapes in shards.items() for tensor in shapes}
    total = sum(4 * int(np.prod(s)) for shapes in shards.values() for s in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return files | {
        "README.md": b"two shards\n",
        "config.json": CONFIG,
        "model.safetensors.index.json": compact(index),
    }


CONFIG = compact(
    {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "vocab_size": 64,
    }
)

README = b"""---
license: mit
library_name: transformers
pipeline_tag: text-generation
base_model: acme/base
tags:
- conformance
---
# Tiny

A model that nobody needs.
"""
