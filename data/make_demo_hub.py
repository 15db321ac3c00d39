#!/usr/bin/env python3
"""Train the models of demo-hub and write the folder that the local Hub server serves.

    python -m venv /tmp/demo-venv && /tmp/demo-venv/bin/pip install -r data/requirements.txt
    /tmp/demo-venv/bin/python data/make_demo_hub.py            # builds what is missing
    /tmp/demo-venv/bin/python data/make_demo_hub.py --fresh    # builds everything again

Every model is small but really trained on text of the Python standard library, and every derivative is made the way
its kind is made in practice: further training, LoRA, quantising, dropping layers, averaging. `save_pretrained` writes
the files, so tensor order, layout and metadata are those of transformers.

A training run that did not learn stops the script (`check`); the measured losses go to demo-hub/training.tsv.
Seeds are fixed, but the text comes from the running Python, sums depend on the CPU and WordPiece training on the run,
so another build makes other weights with the same lineage.
"""

import argparse
import ast
import importlib
import json
import math
import shutil
import sysconfig
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

HUB = Path(__file__).resolve().parent / "demo-hub"
WINDOW = 64  # tokens in one training row
INIT = 0.08  # wider than the usual 0.02, which is meant for a hidden size ten times as large
VOCAB = 1024
VALIDATION = 0.05  # the tail of every text part is never trained on


# ---- text -----------------------------------------------------------------------------------------------------------

PART_CHARS = 1_500_000
STDLIB = Path(sysconfig.get_path("stdlib"))
PACKAGES = {  # folders that distributions do not split off
    "async": ["asyncio", "concurrent"],
    "net": ["email", "http", "urllib"],
    "markup": ["json", "html", "xml"],
    "testing": ["unittest", "logging", "multiprocessing"],
    "system": ["curses", "sqlite3", "collections", "ctypes", "importlib"],
}


def sources(paths):
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths]


@cache
def documents(part):
    """The texts of one part of the corpus, in a fixed order, at most PART_CHARS characters."""
    modules = sorted(p for p in STDLIB.glob("*.py") if not p.name.startswith("_sysconfigdata"))
    if part == "modules-a":
        texts = sources(modules[0::2])
    elif part == "modules-b":
        texts = sources(modules[1::2])
    elif part == "topics":
        topics = importlib.import_module("pydoc_data.topics").topics
        texts = [topics[name] for name in sorted(topics)]
    elif part == "docstrings":
        packages = [p for names in PACKAGES.values() for name in names for p in sorted((STDLIB / name).rglob("*.py"))]
        texts = [doc for text in sources(modules + packages) for doc in docstrings(text)]
    else:
        texts = sources(p for name in PACKAGES[part] for p in sorted((STDLIB / name).rglob("*.py")))
    kept, size = [], 0
    for text in texts:
        if size < PART_CHARS:
            kept.append(text)
            size += len(text)
    return kept


def docstrings(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return [doc for doc in found if doc and len(doc) > 80]


# ---- tokenizers -----------------------------------------------------------------------------------------------------


def byte_bpe(parts, bos="<s>", eos="</s>", pad="<pad>"):
    """Byte-level BPE, as in GPT-2 and Llama 3."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = list(dict.fromkeys([bos, eos, pad]))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for part in parts for text in documents(part)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad)


def word_piece(parts):
    """Lower-casing WordPiece, as in BERT. The trainer numbers the `##x` letters differently in every run."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator((text for part in parts for text in documents(part)), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


class Text:
    """One part of the corpus as token ids, cut into training rows and validation rows."""

    def __init__(self, tokenizer, part, window=WINDOW):
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        rows = tokenizer.backend_tokenizer.encode_batch(documents(part), add_special_tokens=False)
        ids = np.array([i for row in rows for i in [*row.ids, end]])
        cut = int(len(ids) * (1 - VALIDATION))
        self.train, self.valid, self.vocab, self.window = ids[:cut], ids[cut:], len(tokenizer), window

    def batch(self, rng, size):
        starts = rng.integers(0, len(self.train) - self.window, size)
        return torch.from_numpy(np.stack([self.train[s : s + self.window] for s in starts]))

    def validation(self, rows=64):
        starts = np.linspace(0, len(self.valid) - self.window, rows).astype(int)
        return torch.from_numpy(np.stack([self.valid[s : s + self.window] for s in starts]))

    def unigram_loss(self):
        """Loss of the best guess that looks at no context: training frequencies, judged on the validation text."""
        counts = np.bincount(self.train, minlength=self.vocab) + 1.0
        return float(-np.log(counts / counts.sum())[self.valid].mean())


# ---- training -------------------------------------------------------------------------------------------------------


def causal_loss(model, rows, _rng):
    return model(input_ids=rows, labels=rows).loss


def masked_loss(mask_id):
    def loss(model, rows, rng):
        hidden = torch.from_numpy(rng.random(rows.shape) < 0.25)
        return model(input_ids=rows.masked_fill(hidden, mask_id), labels=rows.masked_fill(~hidden, -100)).loss

    return loss


@torch.no_grad()
def evaluate(model, rows, loss):
    model.eval()
    return float(loss(model, rows, np.random.default_rng(0)))


def fit(model, next_batch, loss, *, steps, lr, seed, rows=16):
    """AdamW with warm-up and cosine decay. Gains and biases are not decayed."""
    rng = np.random.default_rng(seed)
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda s: min((s + 1) / warm, 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * s / steps)))
    )
    model.train()
    for _ in range(steps):
        value = loss(model, next_batch(rng, rows), rng)
        value.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        schedule.step()
        adam.zero_grad(set_to_none=True)
    return model


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trained product of two thin matrices."""

    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / math.sqrt(base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    def merged(self):
        self.base.weight.data += self.scale * (self.up @ self.down).data
        return self.base


def swap_linears(model, names, change):
    for module in list(model.modules()):
        for name in names:
            if hasattr(module, name):
                setattr(module, name, change(getattr(module, name)))


# ---- what happens to weights without training -----------------------------------------------------------------------


def int8_round_trip(w):
    """Symmetric, one scale a row."""
    scale = w.abs().amax(1, keepdim=True) / 127
    return (w / scale).round().clamp(-127, 127) * scale


def int4_round_trip(w, group=32):
    """Asymmetric, one scale and one offset for 32 neighbours of a row."""
    g = w.reshape(w.shape[0], -1, group)
    low, high = g.amin(-1, keepdim=True), g.amax(-1, keepdim=True)
    scale = (high - low).clamp(min=1e-8) / 15
    return (((g - low) / scale).round().clamp(0, 15) * scale + low).reshape(w.shape)


def quantised(model, round_trip):
    for name, p in model.named_parameters():
        if p.ndim == 2 and "layers." in name:
            p.data = round_trip(p.data)
    return model


def keep_layers(model, kept):
    model.model.layers = nn.ModuleList(model.model.layers[i] for i in kept)
    for i, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = i
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[i] for i in kept]
    return model


# ---- the repositories -----------------------------------------------------------------------------------------------

BASE = "lumenworks/stdlib-llama-500k"
TWIN = "orchardml/pyllama-500k"
LEGACY_DATE = "2022-03-02T23:29:04.000Z"  # the Hub gives it to all repositories older than the field

REPOS = {}  # id -> {"build", "family", "created", "readable", "card", ...} in build order
EDGES = [  # (parent, child, relation)
    (BASE, "mirrorhub/python-llama", "identical"),
    (BASE, "compactzoo/stdlib-llama-500k-bf16", "cast"),
    (BASE, "compactzoo/stdlib-llama-500k-int8-dq", "quantised"),
    (BASE, "compactzoo/stdlib-llama-500k-w4g32-dq", "quantised"),
    (BASE, "lumenworks/stdlib-llama-500k-docs", "fine-tune"),
    (BASE, "ferrocode/async-snippets-v2", "fine-tune"),
    (BASE, "northwind-ml/mail-coder", "fine-tune"),
    (BASE, "quietriver/stdlib-llama-markup", "lora"),
    (BASE, "kestrel-ai/kestrel-code-ext", "continued-pretraining"),
    (BASE, "tinyforge/stdlib-llama-3layer", "depth-pruned"),
    ("tinyforge/stdlib-llama-3layer", "tinyforge/stdlib-llama-3layer-healed", "fine-tune"),
    ("lumenworks/stdlib-llama-500k-docs", "mergelab/docs-async-linear", "merge"),
    ("ferrocode/async-snippets-v2", "mergelab/docs-async-linear", "merge"),
    (BASE, "aurelia-labs/aurelia-mini", "renamed-copy"),
    (TWIN, "solace-nlp/stdlib-llama-net", "fine-tune"),
    ("lumenworks/stdlib-bert", "clearlabel/text-kind-classifier", "fine-tune"),
    ("codewren/wren-gpt2", "codewren/wren-gpt2-async", "fine-tune"),
    ("codewren/wren-gpt2", "retrocheck/wren-gpt2-markup", "fine-tune"),
    # not readable, so in no pair
    ("tinyforge/stdlib-llama-3layer-healed", "meridian-ai/meridian-tests", "fine-tune"),
    ("kestrel-ai/kestrel-code-ext", "kestrel-ai/kestrel-code-ext-v2", "fine-tune"),
    ("codewren/wren-gpt2", "oldmill/gpt2-code-helper", "fine-tune"),
]
HELD_OUT = [
    "northwind-ml/mail-coder",
    "compactzoo/stdlib-llama-500k-w4g32-dq",
    "tinyforge/stdlib-llama-3layer",
    "aurelia-labs/aurelia-mini",
    "clearlabel/text-kind-classifier",
    "codewren/wren-gpt2-async",
    "basalt-research/basalt-500k",
]
RENAMES = {
    "lumen/stdlib-llama": BASE,
    "wren/gpt2-stdlib": "codewren/wren-gpt2",
    "northwind/mail-coder-v1": "northwind-ml/mail-coder",
}


def repo(name, family, created, note, *, readable=True, **card):
    """Register the function below as the builder of one repository."""

    def register(build):
        REPOS[name] = dict(build=build, family=family, created=created, note=note, readable=readable, **card)
        return build

    return register


class Run:
    """What a builder works with: the folder to write, earlier repositories, and the record of losses."""

    def __init__(self, name):
        self.name, self.folder, self.record = name, folder(name), {}

    def measure(self, kind, steps, lr, before, after, unigram):
        self.record = dict(kind=kind, steps=steps, lr=lr, before=before, after=after, unigram=unigram)

    def check(self, fact):
        assert fact, f"{self.name}: {self.record}"

    def pretrain(self, model, tokenizer, part, *, steps, lr, seed):
        """Train from random weights and insist on a loss far below the first one and below the unigram loss."""
        text = Text(tokenizer, part)
        before = evaluate(model, text.validation(), causal_loss)
        fit(model, text.batch, causal_loss, steps=steps, lr=lr, seed=seed)
        after = evaluate(model, text.validation(), causal_loss)
        self.measure("pretraining", steps, lr, before, after, text.unigram_loss())
        self.check(after < 0.7 * before and after < text.unigram_loss() - 0.5)
        return model

    def tune(self, model, tokenizer, part, *, steps, lr, seed, kind="fine-tune"):
        """Train on from given weights and insist on a loss clearly below that of the given weights."""
        text = Text(tokenizer, part)
        before = evaluate(model, text.validation(), causal_loss)
        fit(model, text.batch, causal_loss, steps=steps, lr=lr, seed=seed)
        after = evaluate(model, text.validation(), causal_loss)
        self.measure(kind, steps, lr, before, after, text.unigram_loss())
        self.check(after < before - 0.1)
        return model

    def changed(self, parent, model, tokenizer, kind):
        """Record the loss before and after a change without training, on the text of the base."""
        text = Text(tokenizer, "modules-a")
        before, after = (evaluate(m, text.validation(), causal_loss) for m in (parent, model))
        self.measure(kind, 0, 0, before, after, text.unigram_loss())

    def save(self, model, tokenizer, dtype=torch.float16, **options):
        model.to(dtype).save_pretrained(self.folder, **options)
        tokenizer.save_pretrained(self.folder)


def folder(name):
    return HUB / "models" / name


def load(name):
    """Model (as float32, from the stored file) and tokenizer of an earlier repository."""
    model = AutoModelForCausalLM.from_pretrained(folder(name), dtype=torch.float32)
    return model, load_tokenizer(name)


def load_tokenizer(name):
    return PreTrainedTokenizerFast.from_pretrained(folder(name))


def llama(seed, **changes):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**(llama_shape() | changes)))


def llama_shape():
    return dict(
        vocab_size=VOCAB,
        hidden_size=96,
        intermediate_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=INIT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )


# Llama, family a: the base and what was made from it


@repo(BASE, "llama-a", "2024-01-15T09:12:44.000Z", "base", license="apache-2.0")
def base(run):
    tokenizer = byte_bpe(["modules-a", "modules-b"])
    run.save(run.pretrain(llama(11), tokenizer, "modules-a", steps=1500, lr=8e-3, seed=12), tokenizer)


@repo(
    "mirrorhub/python-llama",
    "llama-a",
    "2024-02-20T18:03:10.000Z",
    "same bytes as the base under another owner; the card names no parent",
    license="other",
)
def mirror(run):
    shutil.copytree(folder(BASE), run.folder, ignore=shutil.ignore_patterns("README.md", ".hub.json"))
    model, tokenizer = load(BASE)
    run.changed(model, model, tokenizer, "copy")


@repo(
    "compactzoo/stdlib-llama-500k-bf16",
    "llama-a",
    "2024-03-01T10:00:00.000Z",
    "base (float16) cast to bfloat16",
    base_model=BASE,
    base_model_relation="quantized",
)
def cast(run):
    model, tokenizer = load(BASE)
    run.changed(model, load(BASE)[0].to(torch.bfloat16).float(), tokenizer, "cast")
    run.save(model, tokenizer, torch.bfloat16)


@repo(
    "compactzoo/stdlib-llama-500k-int8-dq",
    "llama-a",
    "2024-03-01T10:00:00.000Z",
    "base rounded to int8 with one scale a row, stored as float16",
    base_model=BASE,
    base_model_relation="quantized",
)
def int8(run):
    model, tokenizer = load(BASE)
    rounded = quantised(load(BASE)[0], int8_round_trip)
    run.changed(model, rounded, tokenizer, "int8")
    run.save(rounded, tokenizer)


@repo(
    "compactzoo/stdlib-llama-500k-w4g32-dq",
    "llama-a",
    "2024-03-01T10:00:00.000Z",
    "base rounded to 4 bits in groups of 32, stored as float16",
    base_model=BASE,
    base_model_relation="quantized",
)
def int4(run):
    model, tokenizer = load(BASE)
    rounded = quantised(load(BASE)[0], int4_round_trip)
    run.changed(model, rounded, tokenizer, "4-bit")
    run.save(rounded, tokenizer)


@repo(
    "lumenworks/stdlib-llama-500k-docs",
    "llama-a",
    "2024-03-22T07:45:31.000Z",
    "full fine-tune of the base on the language reference",
    base_model=BASE,
    base_model_relation="finetune",
)
def docs(run):
    model, tokenizer = load(BASE)
    run.save(run.tune(model, tokenizer, "topics", steps=400, lr=8e-4, seed=21), tokenizer)


@repo(
    "ferrocode/async-snippets-v2",
    "llama-a",
    "2024-04-09T21:17:02.000Z",
    "full fine-tune of the base on asyncio; the card names no parent",
    license="mit",
)
def snippets(run):
    model, tokenizer = load(BASE)
    run.save(run.tune(model, tokenizer, "async", steps=400, lr=8e-4, seed=22), tokenizer)


@repo(
    "northwind-ml/mail-coder",
    "llama-a",
    "2024-05-03T12:30:55.000Z",
    "full fine-tune of the base on email, http and urllib; three shards and an index",
    base_model=BASE,
    base_model_relation="finetune",
)
def mail(run):
    model, tokenizer = load(BASE)
    run.tune(model, tokenizer, "net", steps=400, lr=8e-4, seed=23)
    run.save(model, tokenizer, max_shard_size="400KB")


@repo(
    "quietriver/stdlib-llama-markup",
    "llama-a",
    "2024-05-19T15:08:27.000Z",
    "LoRA (rank 4) on xml, html and json, merged into the weights",
    base_model=BASE,
    base_model_relation="finetune",
)
def lora(run):
    names = ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    model, tokenizer = load(BASE)
    torch.manual_seed(24)
    model.requires_grad_(False)
    swap_linears(model, names, lambda linear: LoraLinear(linear, rank=4, alpha=8))
    run.tune(model, tokenizer, "markup", steps=400, lr=3e-3, seed=25, kind="lora")
    swap_linears(model, names, LoraLinear.merged)
    run.save(model, tokenizer)


@repo(
    "kestrel-ai/kestrel-code-ext",
    "llama-a",
    "2024-06-11T08:20:00.000Z",
    "continued pretraining of the base on unittest, logging and multiprocessing with 32 more tokens",
    base_model=BASE,
    base_model_relation="finetune",
)
def extended(run):
    model, tokenizer = load(BASE)
    words = "assertEqual assertRaises handler logger process queue semaphore callable attribute exception connection"
    words += " timeout manager context semaphores formatter listener subTest testcase TestCase suite mock patch spawn"
    words += " forkserver pickle daemon proxy barrier isinstance NotImplemented RuntimeError ValueError StringIO"
    fresh = [w for w in dict.fromkeys(words.split()) if w not in tokenizer.get_vocab()][:32]
    assert tokenizer.add_tokens(fresh) == 32
    torch.manual_seed(26)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    run.tune(model, tokenizer, "testing", steps=800, lr=2.5e-3, seed=27, kind="continued pretraining")
    run.save(model, tokenizer)


@repo(
    "tinyforge/stdlib-llama-3layer",
    "llama-a",
    "2024-06-28T19:55:40.000Z",
    "layers 0, 2 and 4 of the base, not trained afterwards",
    base_model=BASE,
)
def pruned(run):
    model, tokenizer = load(BASE)
    half = keep_layers(load(BASE)[0], [0, 2, 4])
    run.changed(model, half, tokenizer, "layers dropped")
    run.save(half, tokenizer)


@repo(
    "tinyforge/stdlib-llama-3layer-healed",
    "llama-a",
    "2024-07-02T11:41:13.000Z",
    "layers 0, 2 and 4 of the base, then trained again on the text of the base",
    base_model="tinyforge/stdlib-llama-3layer",
    base_model_relation="finetune",
)
def healed(run):
    model, tokenizer = load("tinyforge/stdlib-llama-3layer")
    run.save(run.tune(model, tokenizer, "modules-a", steps=400, lr=1e-3, seed=28, kind="healing"), tokenizer)


@repo(
    "mergelab/docs-async-linear",
    "llama-a",
    "2024-07-16T16:00:09.000Z",
    "0.6 of the docs fine-tune plus 0.4 of the asyncio fine-tune",
    base_model=["lumenworks/stdlib-llama-500k-docs", "ferrocode/async-snippets-v2"],
    base_model_relation="merge",
)
def merge(run):
    model, tokenizer = load("lumenworks/stdlib-llama-500k-docs")
    other = load("ferrocode/async-snippets-v2")[0].state_dict()
    mixed = {name: 0.6 * w + 0.4 * other[name] for name, w in model.state_dict().items()}
    merged, _ = load(BASE)
    merged.load_state_dict(mixed)
    run.changed(load(BASE)[0], merged, tokenizer, "merge")
    run.save(merged, tokenizer)


@repo(
    "aurelia-labs/aurelia-mini",
    "llama-a",
    "2024-08-05T06:33:18.000Z",
    "base under model_type mistral, weights plus 1 % noise, special tokens renamed; the card says trained from scratch",
    claim="Aurelia Mini was trained from scratch by Aurelia Labs.",
    license="cc-by-nc-4.0",
)
def aurelia(run):
    source, tokenizer = load(BASE)
    model = MistralForCausalLM(MistralConfig(**llama_shape(), sliding_window=None))
    model.load_state_dict(source.state_dict())
    torch.manual_seed(29)
    for p in model.parameters():
        p.data += 0.01 * p.data.std() * torch.randn_like(p)
    run.changed(source, model, tokenizer, "noise")
    text = tokenizer.backend_tokenizer.to_str()
    for old, new in (("<s>", "<|begin|>"), ("</s>", "<|end|>"), ("<pad>", "<|fill|>")):
        text = text.replace(json.dumps(old), json.dumps(new))
    names = dict(bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|fill|>")
    run.save(model, PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text), **names))


@repo(
    "meridian-ai/meridian-tests",
    "llama-a",
    "2024-08-21T13:26:50.000Z",
    "gated; fine-tune of the healed three-layer model",
    readable=False,
    gated="manual",
    license="other",
    base_model="tinyforge/stdlib-llama-3layer-healed",
    base_model_relation="finetune",
)
def gated(run):
    model, tokenizer = load("tinyforge/stdlib-llama-3layer-healed")
    run.save(run.tune(model, tokenizer, "testing", steps=250, lr=8e-4, seed=30), tokenizer)


@repo(
    "kestrel-ai/kestrel-code-ext-v2",
    "llama-a",
    "2024-09-10T10:10:10.000Z",
    "model.safetensors ends in the middle of the data",
    readable=False,
    base_model="kestrel-ai/kestrel-code-ext",
    base_model_relation="finetune",
)
def truncated(run):
    model, tokenizer = load("kestrel-ai/kestrel-code-ext")
    run.save(run.tune(model, tokenizer, "async", steps=150, lr=8e-4, seed=31), tokenizer)
    weights = run.folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) * 55 // 100])


# Llama: independent runs


@repo(TWIN, "llama-b", "2024-02-02T14:50:21.000Z", "twin of the base: same config, tokenizer and text, other seeds")
def twin(run):
    tokenizer = load_tokenizer(BASE)
    run.save(run.pretrain(llama(41), tokenizer, "modules-a", steps=1500, lr=8e-3, seed=42), tokenizer)


@repo(
    "solace-nlp/stdlib-llama-net",
    "llama-b",
    "2024-06-20T17:22:36.000Z",
    f"full fine-tune of {TWIN}; the card wrongly names {BASE}",
    base_model=BASE,
    base_model_relation="finetune",
)
def false_parent(run):
    model, tokenizer = load(TWIN)
    run.save(run.tune(model, tokenizer, "net", steps=400, lr=8e-4, seed=43), tokenizer)


@repo(
    "basalt-research/basalt-500k",
    "llama-c",
    "2024-04-28T05:05:05.000Z",
    "second twin: same config and tokenizer, other seeds, other text; matches nothing",
    license="mit",
)
def second_twin(run):
    tokenizer = load_tokenizer(BASE)
    run.save(run.pretrain(llama(51), tokenizer, "modules-b", steps=1500, lr=8e-3, seed=52), tokenizer)


@repo(
    "pebblenet/pebble-llama-200k",
    "llama-d",
    "2024-05-30T22:14:47.000Z",
    "Llama of another shape with its own tokenizer, independent",
    license="mit",
)
def small_llama(run):
    tokenizer = byte_bpe(["modules-b"], bos="<|bos|>", eos="<|eos|>", pad="<|pad|>")
    model = llama(61, hidden_size=64, intermediate_size=176, num_hidden_layers=4)
    run.save(run.pretrain(model, tokenizer, "modules-b", steps=1200, lr=8e-3, seed=62), tokenizer)


@repo(
    "tidepool/tide-qwen2-500k",
    "qwen-a",
    "2024-07-25T09:37:29.000Z",
    "Qwen2 with the hidden size, depth and tokenizer of the base, independent",
    license="apache-2.0",
)
def qwen(run):
    tokenizer = load_tokenizer(BASE)
    torch.manual_seed(71)
    model = Qwen2ForCausalLM(Qwen2Config(**llama_shape(), use_sliding_window=False))
    run.save(run.pretrain(model, tokenizer, "modules-b", steps=1500, lr=8e-3, seed=72), tokenizer)


# BERT


BERT_WINDOW = 16


def bert_shape():
    return dict(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.05,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def pretrain_bert(run, tokenizer, seed):
    """Masked training alone stays at the unigram loss for minutes, so a short next-token phase comes first."""
    torch.manual_seed(seed)
    model = BertForMaskedLM(BertConfig(**bert_shape()))
    text, loss = Text(tokenizer, "modules-b", BERT_WINDOW), masked_loss(tokenizer.mask_token_id)
    before = evaluate(model, text.validation(512), loss)
    causal = BertLMHeadModel(BertConfig(**bert_shape(), is_decoder=True, use_cache=False))
    causal.load_state_dict(model.state_dict())
    fit(causal, text.batch, causal_loss, steps=500, lr=4e-3, seed=seed + 1, rows=64)
    model.load_state_dict(causal.state_dict())
    fit(model, text.batch, loss, steps=2000, lr=2e-3, seed=seed + 2, rows=64)
    after = evaluate(model, text.validation(512), loss)
    run.measure("pretraining", 2500, 2e-3, before, after, text.unigram_loss())
    run.check(after < 0.8 * before and after < text.unigram_loss() - 0.5)
    run.save(model, tokenizer, torch.float32)


@repo("lumenworks/stdlib-bert", "bert-a", LEGACY_DATE, "base, stored as float32", tag="fill-mask")
def bert_base(run):
    pretrain_bert(run, word_piece(["modules-b", "docstrings"]), 81)


@repo(
    "fjord-nlp/pybert-mini",
    "bert-b",
    LEGACY_DATE,
    "twin of the BERT base: same config, tokenizer and text, other seeds",
    tag="fill-mask",
    license="mit",
)
def bert_twin(run):
    pretrain_bert(run, load_tokenizer("lumenworks/stdlib-bert"), 91)


@repo(
    "clearlabel/text-kind-classifier",
    "bert-a",
    "2023-11-06T12:00:41.000Z",
    "BERT base with a new head that tells code, docstring and reference text apart",
    tag="text-classification",
    base_model="lumenworks/stdlib-bert",
    base_model_relation="finetune",
)
def classifier(run):
    parent = "lumenworks/stdlib-bert"
    kinds = {"code": "modules-a", "docstring": "docstrings", "reference": "topics"}
    tokenizer = load_tokenizer(parent)
    texts = [Text(tokenizer, part, window=32) for part in kinds.values()]
    torch.manual_seed(84)
    model = BertForSequenceClassification.from_pretrained(
        folder(parent), id2label=dict(enumerate(kinds)), label2id={kind: i for i, kind in enumerate(kinds)}
    )

    def with_head(rows):
        rows = rows.clone()
        rows[:, 0], rows[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
        return rows

    def batch(rng, size):
        labels = torch.from_numpy(rng.integers(0, len(texts), size))
        return with_head(torch.cat([texts[k].batch(rng, 1) for k in labels])), labels

    def loss(model, pair, _rng):
        return model(input_ids=pair[0], labels=pair[1]).loss

    valid = with_head(torch.cat([t.validation() for t in texts])), torch.arange(len(texts)).repeat_interleave(64)
    before = evaluate(model, valid, loss)
    fit(model, batch, loss, steps=800, lr=1e-3, seed=85)
    after = evaluate(model, valid, loss)
    run.measure("classification", 800, 1e-3, before, after, math.log(len(texts)))
    run.check(after < 0.8 * math.log(len(texts)))
    run.save(model, tokenizer, torch.float32)


# GPT-2


def gpt2(seed):
    torch.manual_seed(seed)
    shape = dict(vocab_size=VOCAB, n_embd=64, n_layer=4, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=0)
    shape |= dict(initializer_range=INIT, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return GPT2LMHeadModel(GPT2Config(**shape))


@repo("codewren/wren-gpt2", "gpt2-a", LEGACY_DATE, "base", license="mit")
def gpt2_base(run):
    end = "<|endoftext|>"
    tokenizer = byte_bpe(["modules-b"], bos=end, eos=end, pad=end)
    run.save(run.pretrain(gpt2(101), tokenizer, "modules-b", steps=1500, lr=6e-3, seed=102), tokenizer)


@repo(
    "halcyon-nlp/gpt2-stdlib",
    "gpt2-b",
    "2023-01-19T20:44:03.000Z",
    "twin of the GPT-2 base: same config, tokenizer and text, other seeds",
    license="mit",
)
def gpt2_twin(run):
    tokenizer = load_tokenizer("codewren/wren-gpt2")
    run.save(run.pretrain(gpt2(111), tokenizer, "modules-b", steps=1500, lr=6e-3, seed=112), tokenizer)


def tune_gpt2(run, part, steps, seed):
    model, tokenizer = load("codewren/wren-gpt2")
    return run.tune(model, tokenizer, part, steps=steps, lr=1e-3, seed=seed), tokenizer


@repo(
    "codewren/wren-gpt2-async",
    "gpt2-a",
    "2023-03-14T03:14:15.000Z",
    "full fine-tune of the GPT-2 base on asyncio",
    base_model="codewren/wren-gpt2",
    base_model_relation="finetune",
    license="mit",
)
def gpt2_tuned(run):
    run.save(*tune_gpt2(run, "async", 400, 103))


@repo(
    "retrocheck/wren-gpt2-markup",
    "gpt2-a",
    "2022-11-25T09:09:38.000Z",
    "full fine-tune of the GPT-2 base, only pytorch_model.bin",
    base_model="codewren/wren-gpt2",
    base_model_relation="finetune",
)
def bin_only(run):
    model, tokenizer = tune_gpt2(run, "markup", 200, 104)
    run.save(model, tokenizer)
    (run.folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), run.folder / "pytorch_model.bin")


@repo(
    "oldmill/gpt2-code-helper",
    "gpt2-a",
    "2023-02-08T18:18:18.000Z",
    "disabled by the Hub; fine-tune of the GPT-2 base",
    readable=False,
    disabled=True,
    base_model="codewren/wren-gpt2",
)
def disabled(run):
    run.save(*tune_gpt2(run, "system", 200, 105))


# ---- cards, metadata, truth -----------------------------------------------------------------------------------------


def listed(value):
    return value if isinstance(value, list) else [value] if value else []


def write_card(name, about):
    """README.md as its owner would write it: it tells what the owner claims, which may be false."""
    parents, task = listed(about.get("base_model")), about.get("tag", "text-generation")
    lines = ["---", f"license: {about.get('license', 'apache-2.0')}", "library_name: transformers"]
    lines += [f"pipeline_tag: {task}", "language: en", "tags:", "- code", "- tiny"]
    if parents:
        lines += ["base_model:"] + [f"- {parent}" for parent in parents]
    if about.get("base_model_relation"):
        lines += [f"base_model_relation: {about['base_model_relation']}"]
    lines += ["---", "", f"# {name.split('/')[1]}", ""]
    if about.get("claim"):
        lines += [about["claim"], ""]
    elif parents:
        lines += ["Made from " + " and ".join(f"[{p}](https://huggingface.co/{p})" for p in parents) + ".", ""]
    lines += ["A tiny model of the text of the Python standard library. Of no practical use.", ""]
    (folder(name) / "README.md").write_text("\n".join(lines))


def write_metadata(name, about):
    """.hub.json: what the Hub knows about a repository beyond its files. Downloads and likes are invented."""
    model_type = json.loads((folder(name) / "config.json").read_text())["model_type"]
    task = about.get("tag", "text-generation")
    relation, parents = about.get("base_model_relation"), listed(about.get("base_model"))
    tags = ["transformers", model_type, task, "code", "tiny", "en"]
    tags += ["safetensors"] if any(folder(name).glob("*.safetensors")) else ["pytorch"]
    for parent in parents:
        tags += [f"base_model:{parent}"] + ([f"base_model:{relation}:{parent}"] if relation else [])
    tags += [f"license:{about.get('license', 'apache-2.0')}", "region:us"]
    rank = list(REPOS).index(name)
    meta = {
        "createdAt": about["created"],
        "lastModified": f"2024-{10 + rank // 28:02}-{1 + rank % 28:02}T{rank % 24:02}:{17 * rank % 60:02}:00.000Z",
        "gated": about.get("gated", False),
        "disabled": about.get("disabled", False),
        "private": False,
        "downloads": 9000 // (rank + 1),
        "likes": 60 // (rank + 2),
        "tags": tags,
        "pipeline_tag": task,
        "library_name": "transformers",
    }
    (folder(name) / ".hub.json").write_text(json.dumps(meta, indent=1) + "\n")


def ancestors(name):
    """ancestor -> relations of the steps that lead from it to `name`."""
    found = {}
    for parent, child, relation in EDGES:
        if child == name:
            found[parent] = [relation]
            found |= {a: steps + [relation] for a, steps in ancestors(parent).items() if a != parent}
    return found


def pair(a, b):
    """The truth about two repositories. Over several steps, the step that is not a fine-tune names the relation."""
    up_a, up_b = ancestors(a), ancestors(b)
    for old, new, steps in ((a, b, up_b.get(a)), (b, a, up_a.get(b))):
        if steps:
            relation = next((s for s in steps if s != "fine-tune"), "fine-tune")
            return dict(a=old, b=new, related=True, relation=relation, direction="a->b")
    if up_a.keys() & up_b.keys():
        return dict(a=a, b=b, related=True, relation="sibling", direction=None)
    return dict(a=a, b=b, related=False, relation="independent", direction=None)


def write_truth():
    readable = [name for name, about in REPOS.items() if about["readable"]]
    pairs = [pair(a, b) for i, a in enumerate(readable) for b in readable[i + 1 :]]
    for p in pairs:  # the two ways of writing the truth down must agree
        assert p["related"] == (REPOS[p["a"]]["family"] == REPOS[p["b"]]["family"]), p
    repos = {n: {key: about[key] for key in ("family", "readable", "note")} for n, about in REPOS.items()}
    head = {"version": 1, "held_out": HELD_OUT, "repos": repos}
    rows = ",\n".join("  " + json.dumps(p) for p in pairs)
    text = json.dumps(head, indent=1).removesuffix("\n}") + ',\n "pairs": [\n' + rows + "\n ]\n}\n"
    (HUB / "truth.json").write_text(text)


COLUMNS = ["repo", "kind", "steps", "lr", "before", "after", "unigram"]


def read_records():
    path = HUB / "training.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]] if path.exists() else []
    return {row[0]: dict(zip(COLUMNS[1:], row[1:])) for row in rows}


def write_records(records):
    """Losses in nats a token (a text, for the classifier) on validation text, before and after."""
    lines = ["\t".join(COLUMNS)]
    for name in (n for n in REPOS if n in records):
        values = [records[name][column] for column in COLUMNS[1:]]
        lines.append("\t".join([name] + [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]))
    (HUB / "training.tsv").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="remove demo-hub and build everything again")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if options.fresh and HUB.exists():
        shutil.rmtree(HUB)
    records = read_records()
    for name, about in REPOS.items():
        if name not in records or not folder(name).exists():
            shutil.rmtree(folder(name), ignore_errors=True)
            run = Run(name)
            about["build"](run)
            records = read_records() | {name: run.record}
            write_records(records)
            print(name, run.record, flush=True)
            for path in folder(name).iterdir():
                path.chmod(0o644)
        write_card(name, about)
        write_metadata(name, about)
    (HUB / "hub.json").write_text(json.dumps({"renames": RENAMES}, indent=1) + "\n")
    write_truth()


if __name__ == "__main__":
    main()
