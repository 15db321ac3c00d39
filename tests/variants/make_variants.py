#!/usr/bin/env python3
"""Write variants of one checkpoint, each a complete folder, and the truth about all pairs of them.

    make_variants.py SOURCE OUT [--name NAME] [--seed N] [--only VARIANT,...]

SOURCE holds config.json, tokenizer.json and *.safetensors with BERT-like or Llama-like tensor names. Variants go to
OUT/NAME/VARIANT (NAME: the name of SOURCE); OUT/pairs.tsv covers all sources that OUT holds. Where a change should
not change what the model computes, the variant is run against the source with transformers, and a difference aborts.
"""

import argparse
import copy
import itertools
import json
import re
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

TOLERANCE = 2e-3  # of the largest value; float32 sums in another order reach some 1e-5
EXTENSION = 100  # tokens that `vocabulary-extended` adds

# ---- names: what every axis of every tensor stands for --------------------------------------------------------------

# (name without its prefix, axes of the weight); a bias has the first axis only. "-" is an axis nobody else shares.
# Axes other than hidden and vocab belong to one layer and get its number: "mlp.3". "o" is the input of the attention's
# output projection: one block for each query head.
TABLE = [
    # BERT, RoBERTa
    (r"embeddings\.word_embeddings", "vocab hidden"),
    (r"embeddings\.(position|token_type)_embeddings", "- hidden"),
    (r"embeddings\.LayerNorm", "hidden"),
    (r"encoder\.layer\.(?P<n>\d+)\.attention\.self\.query", "q hidden"),
    (r"encoder\.layer\.(?P<n>\d+)\.attention\.self\.key", "k hidden"),
    (r"encoder\.layer\.(?P<n>\d+)\.attention\.self\.value", "v hidden"),
    (r"encoder\.layer\.(?P<n>\d+)\.attention\.output\.dense", "hidden o"),
    (r"encoder\.layer\.(?P<n>\d+)\.intermediate\.dense", "mlp hidden"),
    (r"encoder\.layer\.(?P<n>\d+)\.output\.dense", "hidden mlp"),
    (r"encoder\.layer\.(?P<n>\d+)\.(attention\.)?output\.LayerNorm", "hidden"),
    (r"pooler\.dense", "- hidden"),
    (r"cls\.predictions\.transform\.dense|lm_head\.dense", "hidden hidden"),
    (r"cls\.predictions\.transform\.LayerNorm|lm_head\.layer_norm", "hidden"),
    (r"cls\.predictions(\.decoder)?|lm_head\.decoder", "vocab hidden"),
    (r"classifier", "- -"),
    # Llama, Mistral, Qwen2, Qwen3
    (r"embed_tokens|lm_head", "vocab hidden"),
    (r"layers\.(?P<n>\d+)\.self_attn\.q_proj", "q hidden"),
    (r"layers\.(?P<n>\d+)\.self_attn\.k_proj", "k hidden"),
    (r"layers\.(?P<n>\d+)\.self_attn\.v_proj", "v hidden"),
    (r"layers\.(?P<n>\d+)\.self_attn\.o_proj", "hidden o"),
    (r"layers\.(?P<n>\d+)\.self_attn\.[qk]_norm", "-"),
    (r"layers\.(?P<n>\d+)\.mlp\.(gate|up)_proj", "mlp hidden"),
    (r"layers\.(?P<n>\d+)\.mlp\.down_proj", "hidden mlp"),
    (r"(layers\.(?P<n>\d+)\.(input|post_attention)_layer)?norm", "hidden"),
]
TABLE = [(re.compile(pattern), axes.split()) for pattern, axes in TABLE]
PREFIX = re.compile(r"^(bert|roberta|model)\.")
LAYER = re.compile(r"\b(layers?)\.(\d+)\.")
SHARED = ("hidden", "vocab", "-")
BERT_LIKE = ("bert", "roberta")
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")


def axes_of(name, ndim):
    stem, _, kind = PREFIX.sub("", name).rpartition(".")
    for pattern, axes in TABLE:
        match = pattern.fullmatch(stem)
        if match and kind in ("weight", "bias"):
            n = match.groupdict().get("n")
            return tuple(axis if axis in SHARED else f"{axis}.{n}" for axis in axes)[:ndim]
    sys.exit(f"unknown tensor name: {name}")


class Checkpoint:
    """Weights as float32 (integers as they are), config, and the JSON files of the tokenizer."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        kind = self.config["model_type"]
        if kind not in BERT_LIKE + LLAMA_LIKE:
            sys.exit(f"{folder}: model_type {kind} is neither BERT-like nor Llama-like")
        self.files = {p.name: json.loads(p.read_text()) for p in sorted(folder.glob("*.json")) if wanted(p.name)}
        self.vocab_txt = (folder / "vocab.txt").exists()
        self.weights, self.dtypes = {}, {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    w = file.get_tensor(name)
                    self.dtypes[name] = w.dtype
                    self.weights[name] = w.float() if w.is_floating_point() else w
        self.axes = {n: axes_of(n, w.ndim) for n, w in self.weights.items() if w.is_floating_point()}
        self.bert = kind in BERT_LIKE
        self.layers = self.config["num_hidden_layers"]

    def copy(self):
        """Changes of the copy's dictionaries, not of its tensors, leave the original alone."""
        new = copy.copy(self)
        new.config, new.files = copy.deepcopy(self.config), copy.deepcopy(self.files)
        new.weights, new.dtypes, new.axes = dict(self.weights), dict(self.dtypes), dict(self.axes)
        return new

    def having(self, axis):
        return [name for name, axes in self.axes.items() if axis in axes]

    def size(self, axis):
        name = self.having(axis)[0]
        return self.weights[name].shape[self.axes[name].index(axis)]

    def linears(self):
        """The matrices of the layers."""
        return [n for n, axes in self.axes.items() if len(axes) == 2 and any(a not in SHARED for a in axes)]

    def gains(self):
        return [n for n, axes in self.axes.items() if axes == ("hidden",) and "norm" in n.lower() and "weight" in n]

    def tokenizer(self):
        return Tokenizer.from_str(json.dumps(self.files["tokenizer.json"]))

    def heads(self):
        """(key/value heads, query heads for each of them, size of a head)"""
        heads = self.config["num_attention_heads"]
        kv = self.config.get("num_key_value_heads") or heads
        return kv, heads // kv, self.size("q.0") // heads


def wanted(name):
    return name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


def write(ck, folder, dtype=None):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    weights = {}
    for name, w in ck.weights.items():
        kind = dtype if dtype and w.is_floating_point() else ck.dtypes[name]
        weights[name] = w.to(kind).contiguous().clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config = dict(ck.config)
    key = "dtype" if "dtype" in config else "torch_dtype"
    config[key] = str(dtype or next(ck.dtypes[n] for n in ck.axes)).removeprefix("torch.")
    for name, content in {"config.json": config, **ck.files}.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    if ck.vocab_txt:
        tokens = ck.tokenizer().get_vocab(True)
        (folder / "vocab.txt").write_text("".join(t + "\n" for t in sorted(tokens, key=tokens.get)))


# ---- changes of the weights -----------------------------------------------------------------------------------------


def reordered(ck, orders):
    """Every axis named in `orders` becomes its old entries at the given indices: a permutation or a selection."""
    new = ck.copy()
    for name, axes in ck.axes.items():
        for dim, axis in enumerate(axes):
            if axis in orders:
                new.weights[name] = new.weights[name].index_select(dim, orders[axis])
    return new


def hidden_order(ck, rng):
    return {"hidden": torch.randperm(ck.size("hidden"), generator=rng)}


def inner_orders(ck, rng):
    """MLP neurons, heads, and the dimensions inside a head; with rotary positions those of q and k stay in place."""
    kv, group, dim = ck.heads()
    orders = {}

    def shuffled(n):
        return torch.randperm(n, generator=rng)

    for i in range(ck.layers):
        orders[f"mlp.{i}"] = shuffled(ck.size(f"mlp.{i}"))
        kv_heads = shuffled(kv)
        q_heads = [h * group + g for h in kv_heads for g in shuffled(group)]
        value = [shuffled(dim) for _ in range(kv)]
        query = [shuffled(dim) if ck.bert else torch.arange(dim) for _ in range(kv)]
        orders[f"k.{i}"] = torch.cat([h * dim + query[h] for h in kv_heads])
        orders[f"v.{i}"] = torch.cat([h * dim + value[h] for h in kv_heads])
        orders[f"q.{i}"] = torch.cat([h * dim + query[h // group] for h in q_heads])
        orders[f"o.{i}"] = torch.cat([h * dim + value[h // group] for h in q_heads])
    return orders


def scaled(ck, factors):
    """Every axis named in `factors` times the given vector."""
    new = ck.copy()
    for name, axes in ck.axes.items():
        for dim, axis in enumerate(axes):
            if axis in factors:
                shape = [-1 if d == dim else 1 for d in range(len(axes))]
                new.weights[name] = new.weights[name] * factors[axis].view(shape)
    return new


def rescaled(ck, rng):
    """v against o, q against k, and up against down where nothing bent lies between the two (gated MLP or ReLU)."""
    kv, group, dim = ck.heads()
    factors, up = {}, {}

    def spread(*shape):
        return torch.exp(0.5 * torch.randn(*shape, generator=rng))

    normed = any("q_norm" in name for name in ck.axes)
    for i in range(ck.layers):
        value = spread(kv, dim)
        factors[f"v.{i}"] = value.flatten()
        factors[f"o.{i}"] = 1 / value.repeat_interleave(group, 0).flatten()
        if not normed:
            query = spread(kv, dim) if ck.bert else spread(kv, dim // 2).repeat(1, 2)  # rotary turns pairs
            factors[f"k.{i}"] = query.flatten()
            factors[f"q.{i}"] = 1 / query.repeat_interleave(group, 0).flatten()
        if not ck.bert or ck.config["hidden_act"] == "relu":
            up[i] = spread(ck.size(f"mlp.{i}"))
    new = scaled(ck, factors)
    for i, factor in up.items():
        for name in ck.having(f"mlp.{i}"):
            if ck.axes[name][0] == "hidden":
                new.weights[name] = new.weights[name] / factor
            elif "gate_proj" not in name:
                new.weights[name] = (new.weights[name].T * factor).T
    return new


def readers(ck, gain):
    """The matrices that read what this norm of a pre-norm model writes."""
    if gain.endswith("input_layernorm.weight"):
        roles = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"
    elif gain.endswith("post_attention_layernorm.weight"):
        roles = "mlp.gate_proj", "mlp.up_proj"
    else:
        return ["lm_head.weight"]
    stem = gain.removesuffix("weight").rstrip(".").rpartition(".")[0]
    return [f"{stem}.{role}.weight" for role in roles]


def untied(ck):
    new = ck.copy()
    if "lm_head.weight" not in new.weights:
        table = "model.embed_tokens.weight"
        for side in (new.weights, new.dtypes, new.axes):
            side["lm_head.weight"] = side[table]
    new.config["tie_word_embeddings"] = False
    return new


def smoothed(ck):
    """As SmoothQuant: a part of every gain moves into the matrices behind it. The last norm stays as it is."""
    new = ck.copy()
    for gain in ck.gains():
        names = readers(ck, gain)
        if names == ["lm_head.weight"]:
            continue
        g = ck.weights[gain]
        peak = torch.stack([ck.weights[n].abs().amax(0) for n in names]).amax(0)
        s = (g.abs().clamp(min=1e-4) / peak.clamp(min=1e-4)).sqrt()
        s = s / s.log().mean().exp()
        new.weights[gain] = g / s
        for n in names:
            new.weights[n] = ck.weights[n] * s
    return new


def folded(ck):
    """All gains are 1; the matrices behind them took them over. That needs a head of its own."""
    new = untied(ck)
    for gain in ck.gains():
        for n in readers(ck, gain):
            new.weights[n] = new.weights[n] * ck.weights[gain]
        new.weights[gain] = torch.ones_like(ck.weights[gain])
    return new


def rotated(ck, rng):
    """
    The hidden dimension turned by a random orthogonal matrix. Pre-norm with RMSNorm: gains are folded first and the
    function stays. Post-norm with LayerNorm: gains and biases are turned like everything else, which breaks the model.
    """
    new = ck.copy() if ck.bert else folded(ck)
    d = ck.size("hidden")
    q = torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=torch.float64))[0].float()
    for name, axes in new.axes.items():
        for dim, axis in enumerate(axes):
            if axis == "hidden" and (ck.bert or len(axes) > 1 or "norm" not in name):
                new.weights[name] = torch.tensordot(new.weights[name], q, ([dim], [0])).movedim(-1, dim)
    return new


def kept_layers(ck, kept):
    new = ck.copy()
    new.weights, new.dtypes, new.axes = {}, {}, {}
    for name in ck.weights:
        match = LAYER.search(name)
        if match and int(match[2]) not in kept:
            continue
        place = f"{match[1]}.{kept.index(int(match[2]))}." if match else ""
        target = LAYER.sub(place, name) if match else name
        new.weights[target], new.dtypes[target] = ck.weights[name], ck.dtypes[name]
        if name in ck.axes:
            new.axes[target] = axes_of(target, ck.weights[name].ndim)
    new.layers = new.config["num_hidden_layers"] = len(kept)
    if new.config.get("layer_types"):
        new.config["layer_types"] = [ck.config["layer_types"][i] for i in kept]
    if "max_window_layers" in new.config:
        new.config["max_window_layers"] = min(new.config["max_window_layers"], len(kept))
    return new


def pruned_neurons(ck, share):
    """The MLP neurons with the largest norms, in their old order."""
    keep, orders = int(ck.size("mlp.0") * share), {}
    for i in range(ck.layers):
        score = torch.ones(ck.size(f"mlp.{i}"))
        for name in ck.having(f"mlp.{i}"):
            if len(ck.axes[name]) == 2:
                score = score * ck.weights[name].norm(dim=1 - ck.axes[name].index(f"mlp.{i}"))
        orders[f"mlp.{i}"] = score.topk(keep).indices.sort().values
    new = reordered(ck, orders)
    new.config["intermediate_size"] = keep
    return new


def rounded(w, bits, group=None):
    """Per row: symmetric, one scale a row. Per group: one scale and one offset for `group` neighbours of a row."""
    if group is None:
        top = 2 ** (bits - 1) - 1
        scale = (w.abs().amax(1, keepdim=True) / top).clamp(min=1e-12)
        return (w / scale).round().clamp(-top, top) * scale
    g = w.reshape(w.shape[0], -1, group)
    low, high = g.amin(-1, keepdim=True), g.amax(-1, keepdim=True)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
    return (((g - low) / scale).round() * scale + low).reshape(w.shape)


def quantised(ck, bits, group=None, tables=False):
    new = ck.copy()
    for name in ck.linears() + (ck.having("vocab") if tables else []):
        if ck.weights[name].ndim == 2:
            new.weights[name] = rounded(ck.weights[name], bits, group)
    return new


def noised(ck, correlation, rng):
    """Every tensor plus noise in proportion to its spread, so that old and new have about this correlation."""
    new = ck.copy()
    for name in ck.axes:
        w = ck.weights[name]
        noise = torch.randn(w.shape, generator=rng) * w.std() * (1 / correlation**2 - 1) ** 0.5
        new.weights[name] = w + noise if w.numel() > 1 else w
    return new


def low_rank(ck, rank, strength, rng, roles=("q", "k", "v", "o", "mlp")):
    """What merging a LoRA adapter leaves: an update of low rank, `strength` of the norm of the matrix."""
    new = ck.copy()
    for name in ck.linears():
        if any(axis.split(".")[0] in roles for axis in ck.axes[name]):
            w = ck.weights[name]
            up, down = torch.randn(w.shape[0], rank, generator=rng), torch.randn(rank, w.shape[1], generator=rng)
            update = up @ down
            new.weights[name] = w + update * (strength * w.norm() / update.norm())
    return new


def merged(parents, shares):
    new = parents[0].copy()
    for name in new.axes:
        new.weights[name] = sum(share * p.weights[name] for p, share in zip(parents, shares))
    return new


# ---- changes of the vocabulary --------------------------------------------------------------------------------------


def renumbered(ck, order):
    """New token i is old token order[i]; tokens outside of `order` are gone. All files follow."""
    new = reordered(ck, {"vocab": order})
    place = {int(old): i for i, old in enumerate(order)}
    new.config["vocab_size"] = len(order)
    tok = new.files["tokenizer.json"]
    model = tok["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {t: place[i] for t, i in model["vocab"].items() if i in place}
        model["vocab"] = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
    else:  # Unigram: the id is the position
        model["vocab"] = [model["vocab"][int(old)] for old in order if int(old) < len(model["vocab"])]
        model["unk_id"] = place.get(model.get("unk_id"))
    if "merges" in model:
        pairs = [(m, m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
        known = model["vocab"]
        model["merges"] = [m for m, (a, b) in pairs if a in known and b in known and a + b in known]
    for token in tok["added_tokens"]:
        token["id"] = place[token["id"]]
    tok["added_tokens"].sort(key=lambda token: token["id"])
    renumber_post(tok.get("post_processor"), place)
    if tok.get("padding"):
        tok["padding"]["pad_id"] = place[tok["padding"]["pad_id"]]
    decoder = new.files.get("tokenizer_config.json", {}).get("added_tokens_decoder")
    if decoder:
        new.files["tokenizer_config.json"]["added_tokens_decoder"] = {str(place[int(i)]): t for i, t in decoder.items()}
    for config in (new.config, new.files.get("generation_config.json", {})):
        for key, value in config.items():
            if key.endswith("_token_id") and value is not None:
                config[key] = [place[i] for i in value] if isinstance(value, list) else place[value]
    return new


def renumber_post(post, place):
    if not post:
        return
    for inner in post.get("processors", []):
        renumber_post(inner, place)
    for token in (post.get("special_tokens") or {}).values():
        token["ids"] = [place[i] for i in token["ids"]]
    for key in ("sep", "cls"):
        if key in post:
            post[key][1] = place[post[key][1]]


def special_ids(ck):
    ids = {token["id"] for token in ck.files["tokenizer.json"]["added_tokens"]}
    for key, value in ck.config.items():
        if key.endswith("_token_id") and value is not None:
            ids |= set(value) if isinstance(value, list) else {value}
    return ids


def random_half(ck, rng):
    """Special tokens and single characters stay, so that all text can still be written."""
    must = special_ids(ck) | {i for t, i in ck.tokenizer().get_vocab(True).items() if len(t.removeprefix("##")) == 1}
    rest = torch.tensor([i for i in range(ck.size("vocab")) if i not in must])
    count = max(0, ck.size("vocab") // 2 - len(must))
    chosen = rest[torch.randperm(len(rest), generator=rng)[:count]]
    return torch.cat([torch.tensor(sorted(must)), chosen]).sort().values


def extended(ck, rng, count=EXTENSION):
    """New tokens as they are usually started: the mean of the table plus a little noise."""
    new = ck.copy()
    for name in ck.having("vocab"):
        w = ck.weights[name]
        rows = w.mean(0, keepdim=True).expand(count, *w.shape[1:])
        new.weights[name] = torch.cat([w, rows + 0.1 * w.std() * torch.randn(rows.shape, generator=rng)])
    first = ck.size("vocab")
    for i in range(count):
        flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
        new.files["tokenizer.json"]["added_tokens"].append(dict(id=first + i, content=f"<|extra_{i}|>", **flags))
    new.config["vocab_size"] = first + count
    return new


# ---- another name for everything ------------------------------------------------------------------------------------


def disguised(ck):
    """The same function as another architecture: bert -> roberta, llama -> mistral, mistral and qwen2 -> llama."""
    new, kind = ck.copy(), ck.config["model_type"]
    target = {"bert": "roberta", "llama": "mistral"}.get(kind, "llama")
    if kind in ("roberta", "qwen3"):
        sys.exit(f"no disguise for {kind}")
    old_class = {"bert": "Bert", "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}[kind]
    new_class = {"roberta": "Roberta", "mistral": "Mistral", "llama": "Llama"}[target]
    new.config["model_type"] = target
    new.config["architectures"] = [a.replace(old_class, new_class) for a in ck.config["architectures"]]
    new.config.pop("_name_or_path", None)
    if kind == "bert":
        renames = [("cls.predictions.transform.dense", "lm_head.dense"), ("cls.predictions.bias", "lm_head.bias")]
        renames += [("cls.predictions.transform.LayerNorm", "lm_head.layer_norm")]
        renames += [("cls.predictions.decoder", "lm_head.decoder")]
        for name in list(new.weights):
            to = re.sub(r"^(bert\.)?(?=embeddings|encoder|pooler)", "roberta.", name)
            for old, label in renames:
                to = to.replace(old, label)
            for side in (new.weights, new.dtypes, new.axes):
                if name in side:
                    side[to] = side.pop(name)
        # RoBERTa counts positions from the id of the padding token + 1
        table = "roberta.embeddings.position_embeddings.weight"
        skip = new.config["pad_token_id"] + 1
        new.weights[table] = torch.cat([new.weights[table][:1].repeat(skip, 1), new.weights[table]])
        new.config["max_position_embeddings"] += skip
        new.weights.pop("roberta.embeddings.position_ids", None)
        new.config["architectures"] = [a.replace("ForPreTraining", "ForMaskedLM") for a in new.config["architectures"]]
    if target == "mistral":
        new.config["sliding_window"] = None
        if any(name.endswith("o_proj.bias") for name in ck.axes):
            sys.exit("Mistral has no attention biases")
    if kind == "qwen2":  # has biases of q, k and v only, Llama all four or none
        new.config["attention_bias"] = True
        for i in range(ck.layers):
            stem = f"model.layers.{i}.self_attn."
            new.weights[stem + "o_proj.bias"] = torch.zeros(ck.size("hidden"))
            new.dtypes[stem + "o_proj.bias"] = ck.dtypes[stem + "q_proj.bias"]
            new.axes[stem + "o_proj.bias"] = ("hidden",)
        for key in ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"):
            new.config.pop(key, None)
    return new


def shuffled_order(ck, rng):
    return torch.randperm(ck.size("vocab"), generator=rng)


def laundered(ck, rng):
    """Everything but the noise, and the order of tokens: function preserved."""
    order = shuffled_order(ck, rng)
    pad = ck.config.get("pad_token_id")
    if ck.bert and pad is not None:  # padding where RoBERTa has it
        order = order[order != pad]
        order = torch.cat([order[:1], torch.tensor([pad]), order[1:]])
    orders = hidden_order(ck, rng) | inner_orders(ck, rng)
    return disguised(renumbered(reordered(ck, orders), order)), order, orders["hidden"]


# ---- checks ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def outputs(ck, ids):
    """(hidden states after the last layer, logits or None), in float32."""
    config = transformers.AutoConfig.for_model(**{k: v for k, v in ck.config.items() if "dtype" not in k})
    kind = getattr(transformers, ck.config["architectures"][0])
    weights = {n: w.clone() for n, w in ck.weights.items() if w.is_floating_point()}
    model = kind.from_pretrained(None, config=config, state_dict=weights, dtype=torch.float32).eval()
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    return out.hidden_states[-1], getattr(out, "logits", None)


class Check:
    def __init__(self, ck, rng):
        self.ck, self.rng = ck, rng

    def same(self, name, new, order=None, hidden=None, only_logits=False):
        """Abort unless `new` computes what the source does, for tokens that both have."""
        specials, total = special_ids(self.ck), self.ck.size("vocab")
        pool = order if order is not None else torch.arange(total)
        place = {int(old): i for i, old in enumerate(pool)}
        pool = torch.tensor([int(i) for i in pool if int(i) not in specials])
        ids = pool[torch.randint(len(pool), (2, 24), generator=self.rng)]
        (states, logits), theirs = outputs(self.ck, ids), outputs(new, ids.clone().apply_(lambda i: place[i]))
        pairs = []
        if not only_logits:
            pairs.append((states if hidden is None else states[..., hidden], theirs[0]))
        if logits is not None and logits.shape[-1] == total:
            pairs.append((logits if order is None else logits[..., order], theirs[1][..., : len(place)]))
        assert pairs, name
        error = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
        print(f"{name}: function preserved, max error {error:.1e} of the largest value", flush=True)
        if not error < TOLERANCE:
            sys.exit(f"{name}: function not preserved")

    def runs(self, name, new):
        ids = torch.randint(5, new.size("vocab"), (2, 8), generator=self.rng)
        if not all(x.isfinite().all() for x in outputs(new, ids) if x is not None):
            sys.exit(f"{name}: not finite")

    def tokens(self, name, new, order):
        """The rewritten tokenizer cuts text as the old one does (where no token is gone) and knows the same strings."""
        old, now = self.ck.tokenizer(), new.tokenizer()
        names = {i: t for t, i in old.get_vocab(True).items()}
        theirs = now.get_vocab(True)
        for i, token in enumerate(order.tolist()):
            if token in names and theirs.get(names[token]) != i:
                sys.exit(f"{name}: token {names[token]!r} is not {i}")
        text = "def walk(top): # The quick brown fox jumps over the lazy dog, 1234 times."
        if len(order) == self.ck.size("vocab"):
            assert [t for t in old.encode(text).tokens] == [t for t in now.encode(text).tokens], name
        else:
            assert now.encode(text).tokens, name


# ---- all variants ---------------------------------------------------------------------------------------------------


def variants(ck, check, seed):
    """Yields (name, relation to the source, function that makes (checkpoint, dtype))."""

    def rng(salt):
        return torch.Generator().manual_seed(1000 * seed + salt)

    def same(name, new, dtype=None, **how):
        check.same(name, new, **how)
        return new, dtype

    def finite(name, new):
        check.runs(name, new)
        return new, None

    def vocabulary(name, order):
        new = renumbered(ck, order)
        check.tokens(name, new, order)
        return same(name, new, order=order)

    def permuted(name, hidden, inner):
        orders = (hidden_order(ck, rng(1)) if hidden else {}) | (inner_orders(ck, rng(2)) if inner else {})
        return same(name, reordered(ck, orders), hidden=orders.get("hidden"))

    def laundry(name):
        new, order, hidden = laundered(ck, rng(3))
        check.tokens(name, new, order)
        check.same(name + " before noise", new, order=order, hidden=hidden)
        return noised(new, 0.995, rng(4)), torch.float16

    def turned(name):
        new = rotated(ck, rng(5))
        return finite(name, new) if ck.bert else same(name, new, only_logits=True)

    yield "original", "copy", lambda n: (ck, None)
    for short, dtype in ("fp16", torch.float16), ("bf16", torch.bfloat16), ("f64", torch.float64):
        yield short, "cast", lambda n, dtype=dtype: (ck, dtype)
    yield "int8-row", "quantised", lambda n: finite(n, quantised(ck, 8))
    yield "int4-row", "quantised", lambda n: finite(n, quantised(ck, 4))
    yield "int4-group32", "quantised", lambda n: finite(n, quantised(ck, 4, 32))
    yield "int4-group32-tables", "quantised", lambda n: finite(n, quantised(ck, 4, 32, tables=True))
    every, first = list(range(0, ck.layers, 2)), list(range(ck.layers - ck.layers // 3))
    yield "layers-every-second", "depth-pruned", lambda n: finite(n, kept_layers(ck, every))
    yield "layers-first-two-thirds", "depth-pruned", lambda n: finite(n, kept_layers(ck, first))
    yield "mlp-75", "width-pruned", lambda n: finite(n, pruned_neurons(ck, 0.75))
    yield "mlp-50", "width-pruned", lambda n: finite(n, pruned_neurons(ck, 0.5))
    yield "vocabulary-extended", "vocabulary changed", lambda n: same(n, extended(ck, rng(6)))
    yield "vocabulary-half", "vocabulary changed", lambda n: vocabulary(n, random_half(ck, rng(7)))
    yield "vocabulary-shuffled", "vocabulary changed", lambda n: vocabulary(n, shuffled_order(ck, rng(8)))
    yield "permuted-hidden", "permuted copy", lambda n: permuted(n, True, False)
    yield "permuted-inner", "permuted copy", lambda n: permuted(n, False, True)
    yield "permuted-both", "permuted copy", lambda n: permuted(n, True, True)
    yield "rotated", "rotated copy", turned
    yield "rescaled-inner", "rescaled", lambda n: same(n, rescaled(ck, rng(9)))
    if not ck.bert:
        yield "rescaled-smoothed", "rescaled", lambda n: same(n, smoothed(ck))
        yield "rescaled-folded", "rescaled", lambda n: same(n, folded(ck), only_logits=True)
    for i, r in enumerate((0.99, 0.9, 0.5, 0.3)):
        yield f"noise-{r}", "fine-tune", lambda n, i=i, r=r: finite(n, noised(ck, r, rng(10 + i)))
    yield "lora-r8-qv", "LoRA", lambda n: finite(n, low_rank(ck, 8, 0.05, rng(20), ("q", "v")))
    yield "lora-r16-all", "LoRA", lambda n: finite(n, low_rank(ck, 16, 0.1, rng(21)))
    siblings = lambda: [noised(ck, 0.9, rng(11)), noised(ck, 0.9, rng(15))]  # the first is noise-0.9
    yield "noise-0.9-sibling", "fine-tune", lambda n: finite(n, siblings()[1])
    yield "merge-60-40", "merge", lambda n: finite(n, merged(siblings(), (0.6, 0.4)))
    if ck.config["model_type"] in ("bert", "llama", "mistral", "qwen2"):
        yield "laundered", "laundered", laundry


# The relation of two variants of one source is that of the one further down here.
RANK = ["copy", "cast", "quantised", "fine-tune", "LoRA", "merge", "vocabulary changed", "rescaled", "width-pruned"]
RANK += ["depth-pruned", "permuted copy", "rotated copy", "laundered"]


def write_pairs(out):
    """All pairs of all variants below `out`. Different sources are taken to be unrelated."""
    found = []
    for table in sorted(out.glob("*/variants.tsv")):
        for line in table.read_text().splitlines():
            name, relation = line.split("\t")
            found.append((table.parent.name, name, relation))
    lines = ["a\tb\trelated\trelation"]
    for (source_a, a, relation_a), (source_b, b, relation_b) in itertools.combinations(found, 2):
        related = source_a == source_b
        relation = max(relation_a, relation_b, key=RANK.index) if related else "none"
        lines.append(f"{source_a}/{a}\t{source_b}/{b}\t{int(related)}\t{relation}")
    (out / "pairs.tsv").write_text("\n".join(lines) + "\n")
    return len(found), len(lines) - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", help="folder for the variants; default: the name of SOURCE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=lambda text: text.split(","), help="names of variants, separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    ck = Checkpoint(options.source)
    folder = options.out / (options.name or options.source.resolve().name)
    done = []
    for name, relation, make in variants(ck, Check(ck, torch.Generator().manual_seed(options.seed)), options.seed):
        if options.only is None or name in options.only:
            new, dtype = make(name)
            write(new, folder / name, dtype)
            done.append(f"{name}\t{relation}\n")
    (folder / "variants.tsv").write_text("".join(done))
    models, pairs = write_pairs(options.out)
    print(f"{len(done)} variants in {folder}; pairs.tsv: {models} models, {pairs} pairs")


if __name__ == "__main__":
    main()
