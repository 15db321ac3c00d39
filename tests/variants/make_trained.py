#!/usr/bin/env python3
"""Train small models of eight shapes and what descends from them, each a complete folder, and write down all pairs.

    make_trained.py OUT            # builds what is missing
    make_trained.py OUT --only llama,bert

Of each shape there are two to four *runs*: one config, one tokenizer, one order of the data, other random weights to
begin with. They are the hard negatives, since nothing but the weights tells them apart. What descends from the first
run of a shape is made as it is in practice. OUT/pairs.tsv has all pairs but those of runs that began from the same
random weights, which are neither related nor not; they are in OUT/same-start.tsv. OUT/training.tsv has the losses: a run
that did not learn stops the script, and so does a copy in other coordinates that computes something else.

Text, tokenizers and training are those of data/make_demo_hub.py, changes without training those of make_variants.py.
"""

import argparse
import itertools
import json
import re
import shutil
import sys
from functools import cache, partial
from pathlib import Path

import gguf
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parents[1] / "data")]
import make_demo_hub as demo  # noqa: E402
import make_variants as variants  # noqa: E402

STEPS = 400  # of a run
LORA_RANK = 4
NEW_TOKENS = [f"<|tool_{i}|>" for i in range(40)]
VOCAB, INIT = demo.VOCAB, demo.INIT

# ---- shapes ---------------------------------------------------------------------------------------------------------


def restored_loss(mask_id):
    """Encoder and decoder: the text of which a quarter is hidden, written out in full."""

    def loss(model, rows, rng):
        hidden = torch.from_numpy(rng.random(rows.shape) < 0.25)
        return model(input_ids=rows.masked_fill(hidden, mask_id), labels=rows).loss

    return loss


def next_token_loss(model, rows, _rng):
    """What an encoder learns first: masked training alone stays at the unigram loss for long."""
    n = rows.shape[1]
    past = torch.ones(n, n, dtype=torch.bool).tril().expand(len(rows), 1, n, n)
    logits = model(input_ids=rows, attention_mask=past).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())


class Shape:
    """One architecture with its config, tokenizer, text and way of training. `kind` is causal, masked or restored."""

    def __init__(self, name, tokenizer, part, kind, lr, **config):
        self.model_class = getattr(transformers, name)
        self.config_class = self.model_class.config_class
        self.tokenizer, self.part, self.kind, self.lr, self.config = tokenizer, part, kind, lr, config
        self.window, self.rows = (32, 32) if kind == "masked" else (demo.WINDOW, 16)

    def new(self, seed):
        torch.manual_seed(seed)
        return self.model_class(self.config_class(**self.config))

    def load(self, folder):
        return self.model_class.from_pretrained(folder, dtype=torch.float32)

    def text(self, tokenizer, part):
        return demo.Text(tokenizer, part, self.window)

    def loss(self, tokenizer):
        if self.kind == "causal":
            return demo.causal_loss
        mask = tokenizer.mask_token_id if self.kind == "masked" else tokenizer.pad_token_id
        return (demo.masked_loss if self.kind == "masked" else restored_loss)(mask)


LLAMA = dict(vocab_size=VOCAB, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256)
LLAMA |= dict(initializer_range=INIT, bos_token_id=0, eos_token_id=1, pad_token_id=2)
NO_DROPOUT = dict(attention_dropout=0.0, dropout=0.0)

SHAPES = {
    "llama": Shape(
        "LlamaForCausalLM", "code", "modules-a", "causal", 8e-3,
        hidden_size=96, intermediate_size=128, num_hidden_layers=6, tie_word_embeddings=True, **LLAMA,
    ),
    "qwen2": Shape(
        "Qwen2ForCausalLM", "code", "modules-b", "causal", 6e-3,
        hidden_size=192, intermediate_size=256, num_hidden_layers=3, tie_word_embeddings=False, **LLAMA,
    ),
    "gpt2": Shape(
        "GPT2LMHeadModel", "gpt2", "modules-b", "causal", 6e-3,
        vocab_size=VOCAB, n_embd=64, n_layer=4, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=0,
        initializer_range=INIT, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    ),
    "neox": Shape(
        "GPTNeoXForCausalLM", "neox", "modules-a", "causal", 6e-3,
        vocab_size=VOCAB, hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=256, initializer_range=INIT, bos_token_id=0, eos_token_id=0,
    ),
    "bert": Shape("BertForMaskedLM", "bert", "modules-b", "masked", 4e-3, **demo.bert_shape()),
    "distilbert": Shape(
        "DistilBertForMaskedLM", "bert", "modules-b", "masked", 4e-3,
        vocab_size=VOCAB, dim=64, hidden_dim=192, n_layers=2, n_heads=4, max_position_embeddings=64,
        initializer_range=0.05, **NO_DROPOUT,
    ),
    "t5": Shape(
        "T5ForConditionalGeneration", "docs", "docstrings", "restored", 1.5e-2,
        vocab_size=VOCAB, d_model=64, d_kv=16, d_ff=160, num_layers=2, num_decoder_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", dropout_rate=0.0, pad_token_id=2, eos_token_id=1, decoder_start_token_id=2,
    ),
    "mixtral": Shape(
        "MixtralForCausalLM", "code", "modules-a", "causal", 8e-3,
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_local_experts=4, num_experts_per_tok=2,
        output_router_logits=True, tie_word_embeddings=False, **LLAMA,
    ),
}  # fmt: skip

RUNS = {"llama": 4, "qwen2": 3, "gpt2": 3, "neox": 3, "bert": 3, "distilbert": 2, "t5": 3, "mixtral": 2}


@cache
def new_tokenizer(name):
    end = "<|endoftext|>"
    if name == "bert":
        return demo.word_piece(["modules-b", "docstrings"])
    if name in ("gpt2", "neox"):
        parts = ["modules-b"] if name == "gpt2" else ["modules-a", "docstrings"]
        return demo.byte_bpe(parts, bos=end, eos=end, pad=end)
    return demo.byte_bpe(["modules-a", "modules-b"] if name == "code" else ["docstrings"])


# ---- the models -----------------------------------------------------------------------------------------------------


class Build:
    """What the maker of one model works with: its shape and folder, its parents, and the record of losses."""

    def __init__(self, out, name):
        self.name, self.folder, self.record = name, out / (name + ".part"), None
        self.shape = SHAPES[name.split("/")[0]]
        self.parents = [out / parent for parent, _ in PARENTS.get(name, [])]

    def tokenizer(self):
        """That of the parent; of runs, that of the first run of all shapes that share it."""
        if self.parents:
            return transformers.PreTrainedTokenizerFast.from_pretrained(self.parents[0])
        kept = self.folder.parents[1] / f"tokenizer-{self.shape.tokenizer}"
        if not kept.exists():
            new_tokenizer(self.shape.tokenizer).save_pretrained(kept)
        return transformers.PreTrainedTokenizerFast.from_pretrained(kept)

    def train(self, model, tokenizer, part, steps, lr, seed, learnt):
        """`learnt` is a condition on the losses before, after and of the best guess that looks at no context."""
        text, loss = self.shape.text(tokenizer, part), self.shape.loss(tokenizer)
        fit = partial(demo.fit, model, text.batch, seed=seed, rows=self.shape.rows)
        before = demo.evaluate(model, text.validation(), loss)
        if self.shape.kind == "masked" and steps >= STEPS:
            fit(next_token_loss, steps=steps, lr=lr)
            lr /= 2
        fit(loss, steps=steps, lr=lr)
        after, unigram = demo.evaluate(model, text.validation(), loss), text.unigram_loss()
        self.record = [part, str(steps), f"{lr:g}", *(f"{x:.3f}" for x in (before, after, unigram))]
        if not learnt(before, after, unigram):
            sys.exit(f"{self.name} did not learn: {self.record}")
        return model

    def save(self, model, tokenizer):
        model.save_pretrained(self.folder)
        tokenizer.save_pretrained(self.folder)

    def copy_of_parent(self):
        """Everything but the weights, which are returned by name."""
        shutil.copytree(self.parents[0], self.folder, ignore=shutil.ignore_patterns("*.safetensors"))
        return load_file(self.parents[0] / "model.safetensors")

    def write(self, weights, **config):
        weights = {name: w.contiguous().clone() for name, w in weights.items()}
        save_file(weights, self.folder / "model.safetensors", metadata={"format": "pt"})
        path = self.folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config, indent=2) + "\n")


def run(start, part=None):
    """A run from the random weights of seed `start`. All runs see the same rows in the same order."""

    def make(build):
        tokenizer, shape = build.tokenizer(), build.shape
        learnt = lambda before, after, unigram: after < unigram - 0.2
        model = build.train(shape.new(start), tokenizer, part or shape.part, STEPS, shape.lr, 7, learnt)
        build.save(model, tokenizer)

    return make


def improved(before, after, _unigram):
    return after < before - 0.02


def tuned(part, steps=120, lr=1e-3, seed=21):
    """All weights, trained further on other text."""

    def make(build):
        tokenizer = build.tokenizer()
        model = build.train(build.shape.load(build.parents[0]), tokenizer, part, steps, lr, seed, improved)
        build.save(model, tokenizer)

    return make


def lora(part):
    """Thin matrices beside those of the attention, trained and merged."""

    def make(build):
        tokenizer, names = build.tokenizer(), ("q_proj", "k_proj", "v_proj", "o_proj")
        model = build.shape.load(build.parents[0]).requires_grad_(False)
        torch.manual_seed(23)
        demo.swap_linears(model, names, lambda linear: demo.LoraLinear(linear, LORA_RANK, 2 * LORA_RANK))
        build.train(model, tokenizer, part, 120, 4e-3, 24, improved)
        demo.swap_linears(model, names, lambda linear: linear.merged())
        build.save(model, tokenizer)

    return make


def more_tokens(build):
    """New tokens, and training with them."""
    tokenizer, model = build.tokenizer(), build.shape.load(build.parents[0])
    tokenizer.add_tokens(NEW_TOKENS)
    torch.manual_seed(25)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    build.save(build.train(model, tokenizer, "async", 60, 1e-3, 26, improved), tokenizer)


def changed(variant):
    """A variant of make_variants.py."""

    def make(build):
        checkpoint = variants.Checkpoint(build.parents[0])
        check = variants.Check(checkpoint, torch.Generator().manual_seed(0))
        made = {name: make for name, _, make in variants.variants(checkpoint, check, 0)}[variant](variant)
        variants.write(made[0], build.folder, made[1])

    return make


def cast(dtype):
    def make(build):
        weights = {name: w.to(dtype) for name, w in build.copy_of_parent().items()}
        build.write(weights, dtype=str(dtype).removeprefix("torch."))

    return make


def merge(build):
    """.6 of one fine-tune and .4 of another."""
    first, other = build.copy_of_parent(), load_file(build.parents[1] / "model.safetensors")
    build.write({name: 0.6 * w + 0.4 * other[name] for name, w in first.items()})


def healed(kept, part):
    """The layers `kept`, trained further."""

    def make(build):
        weights = {}
        for name, w in build.copy_of_parent().items():
            layer = variants.LAYER.search(name)
            if layer is None:
                weights[name] = w
            elif int(layer[2]) in kept:
                weights[name.replace(layer[0], f"{layer[1]}.{kept.index(int(layer[2]))}.", 1)] = w
        config = dict(num_hidden_layers=len(kept))
        if "layer_types" in (old := json.loads((build.folder / "config.json").read_text())):
            config["layer_types"] = [old["layer_types"][i] for i in kept]
        build.write(weights, **config)
        tokenizer = build.tokenizer()
        build.save(build.train(build.shape.load(build.folder), tokenizer, part, 120, 1e-3, 27, improved), tokenizer)

    return make


# What a tensor is called that writes into the hidden dimension; all others read from it.
WRITES = re.compile(r"(attn\.c_proj|mlp\.c_proj|attention\.dense|dense_4h_to_h|out_lin|lin2|\.o|\.wo)$")
TABLES = re.compile(r"(wte|wpe|embed_in|embed_out|shared|lm_head|embeddings|vocab_projector)$")
NORMS = re.compile(r"(ln_\w+|norm\w*)$", re.IGNORECASE)
BOTH = re.compile(r"vocab_transform$")  # the head of a masked model reads and writes it
NEITHER = re.compile(r"relative_attention_bias$")


def permuted(build):
    """The hidden dimension in another order, everywhere."""
    weights = build.copy_of_parent()
    config = transformers.AutoConfig.from_pretrained(build.folder)
    turned = config.model_type == "gpt2"  # stores matrices as (in, out)
    order = torch.randperm(config.hidden_size, generator=torch.Generator().manual_seed(28))
    new = {}
    for name, w in weights.items():
        stem = name.rpartition(".")[0]
        writes, reads = bool(WRITES.search(stem) or BOTH.search(stem)), not WRITES.search(stem)
        if NEITHER.search(stem):
            new[name] = w
        elif w.ndim == 1:
            new[name] = w[order] if writes or NORMS.search(stem) else w
        elif TABLES.search(stem):
            new[name] = w[:, order]
        else:
            rows, columns = (reads, writes) if turned else (writes, reads)
            w = w[order] if rows else w
            new[name] = w[:, order] if columns else w
    build.write(new)
    ids = torch.randint(5, VOCAB, (2, 24), generator=torch.Generator().manual_seed(29))
    inputs = dict(input_ids=ids) | (dict(decoder_input_ids=ids) if config.is_encoder_decoder else {})
    with torch.no_grad():
        old, now = (build.shape.load(f).eval()(**inputs).logits for f in (build.parents[0], build.folder))
    if not (old - now).abs().max() < variants.TOLERANCE * old.abs().max():
        sys.exit(f"{build.name} computes something else")


def pickled(build):
    """The same weights as torch.save writes them."""
    torch.save(build.copy_of_parent(), build.folder / "pytorch_model.bin")


def as_gguf(build):
    """The same weights as llama.cpp's converter writes them, matrices in blocks of eight bits."""
    checkpoint = variants.Checkpoint(build.parents[0])
    config, kv_heads = checkpoint.config, checkpoint.config["num_key_value_heads"]
    build.folder.mkdir(parents=True)
    writer = gguf.GGUFWriter(build.folder / "model-Q8_0.gguf", "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    tokens = checkpoint.tokenizer().get_vocab(True)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(tokens, key=tokens.get))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, w in checkpoint.weights.items():
        for projection, heads in ("q_proj", config["num_attention_heads"]), ("k_proj", kv_heads):
            if projection in name:  # each head: pairs of rotary dimensions next to each other
                w = w.reshape(heads, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
        w = w.numpy()
        if w.ndim == 2:
            w, kind = gguf.quantize(w, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
        else:
            kind = gguf.GGMLQuantizationType.F32
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), w, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def upcycled(build):
    """A Llama of which every MLP became four equal experts with a new router, trained further."""
    weights = {}
    router = torch.Generator().manual_seed(30)
    for name, w in build.copy_of_parent().items():
        mlp = re.fullmatch(r"(.*)\.mlp\.(gate|up|down)_proj\.weight", name)
        for expert in range(4) if mlp else ():
            part = {"gate": "w1", "down": "w2", "up": "w3"}[mlp[2]]
            weights[f"{mlp[1]}.block_sparse_moe.experts.{expert}.{part}.weight"] = w
        if mlp and mlp[2] == "gate":
            weights[f"{mlp[1]}.block_sparse_moe.gate.weight"] = 0.02 * torch.randn(4, w.shape[1], generator=router)
        elif not mlp:
            weights[name] = w
    llama = SHAPES["llama"].config | dict(num_local_experts=4, num_experts_per_tok=2, output_router_logits=True)
    config = build.shape.config_class(architectures=["MixtralForCausalLM"], **llama)
    config.save_pretrained(build.folder)
    build.write(weights)
    tokenizer = build.tokenizer()
    build.save(build.train(build.shape.load(build.folder), tokenizer, "async", 60, 1e-3, 31, improved), tokenizer)


BERT_TO_DISTILBERT = [
    ("bert.embeddings", "distilbert.embeddings"),
    ("bert.encoder.layer", "distilbert.transformer.layer"),
    ("attention.self.query", "attention.q_lin"),
    ("attention.self.key", "attention.k_lin"),
    ("attention.self.value", "attention.v_lin"),
    ("attention.output.dense", "attention.out_lin"),
    ("attention.output.LayerNorm", "sa_layer_norm"),
    ("intermediate.dense", "ffn.lin1"),
    ("output.dense", "ffn.lin2"),
    ("output.LayerNorm", "output_layer_norm"),
    ("cls.predictions.transform.dense", "vocab_transform"),
    ("cls.predictions.transform.LayerNorm", "vocab_layer_norm"),
    ("cls.predictions.bias", "vocab_projector.bias"),
]


def halved(build):
    """As DistilBERT came from BERT: every second layer, no segments, other names; trained further."""
    weights = {}
    for name, w in build.copy_of_parent().items():
        layer = re.search(r"encoder\.layer\.(\d+)\.", name)
        if "token_type" in name or layer and int(layer[1]) % 2:
            continue
        for old, label in BERT_TO_DISTILBERT:
            name = name.replace(old, label)
        weights[re.sub(r"layer\.(\d+)\.", lambda m: f"layer.{int(m[1]) // 2}.", name)] = w
    build.shape.config_class(architectures=["DistilBertForMaskedLM"], **build.shape.config).save_pretrained(build.folder)
    build.write(weights)
    tokenizer = build.tokenizer()
    model = build.train(build.shape.load(build.folder), tokenizer, "modules-b", 120, 1e-3, 32, improved)
    build.save(model, tokenizer)


# name -> (parents and how it came from each, maker)
DERIVED = {
    "llama/1-tuned": ([("llama/1", "fine-tune")], tuned("docstrings")),
    "llama/1-tuned-net": ([("llama/1", "fine-tune")], tuned("net", seed=22)),
    "llama/1-merged": ([("llama/1-tuned", "merge"), ("llama/1-tuned-net", "merge")], merge),
    "llama/1-tuned-int4": ([("llama/1-tuned", "quantised")], changed("int4-group32")),
    "llama/1-continued": ([("llama/1", "continued pretraining")], tuned("modules-b", STEPS, 6e-3)),
    "llama/1-lora": ([("llama/1", "LoRA")], lora("markup")),
    "llama/1-fp16": ([("llama/1", "cast")], cast(torch.float16)),
    "llama/1-bf16": ([("llama/1", "cast")], cast(torch.bfloat16)),
    "llama/1-int8": ([("llama/1", "quantised")], changed("int8-row")),
    "llama/1-int4": ([("llama/1", "quantised")], changed("int4-row")),
    "llama/1-gguf": ([("llama/1", "quantised")], as_gguf),
    "llama/1-four-layers": ([("llama/1", "depth-pruned")], healed([0, 1, 3, 5], "modules-a")),
    "llama/1-more-tokens": ([("llama/1", "vocabulary changed")], more_tokens),
    "llama/1-permuted": ([("llama/1", "permuted copy")], changed("permuted-both")),
    "llama/1-rotated": ([("llama/1", "rotated copy")], changed("rotated")),
    "llama/1-smoothed": ([("llama/1", "rescaled")], changed("rescaled-smoothed")),
    "llama/1-noise": ([("llama/1", "fine-tune")], changed("noise-0.9")),
    "llama/1-laundered": ([("llama/1", "laundered")], changed("laundered")),
    "llama/2-tuned": ([("llama/2", "fine-tune")], tuned("docstrings")),
    "qwen2/1-tuned": ([("qwen2/1", "fine-tune")], tuned("docstrings")),
    "qwen2/1-lora": ([("qwen2/1", "LoRA")], lora("net")),
    "qwen2/1-rotated": ([("qwen2/1", "rotated copy")], changed("rotated")),
    "qwen2/1-int8": ([("qwen2/1", "quantised")], changed("int8-row")),
    "gpt2/1-tuned": ([("gpt2/1", "fine-tune")], tuned("async")),
    "gpt2/1-tuned-torch": ([("gpt2/1-tuned", "copy")], pickled),
    "gpt2/1-permuted": ([("gpt2/1", "permuted copy")], permuted),
    "neox/1-continued": ([("neox/1", "continued pretraining")], tuned("modules-b", STEPS, 4e-3)),
    "neox/1-three-layers": ([("neox/1", "depth-pruned")], healed([0, 1, 3], "modules-a")),
    "neox/1-permuted": ([("neox/1", "permuted copy")], permuted),
    "bert/1-tuned": ([("bert/1", "fine-tune")], tuned("docstrings")),
    "bert/1-permuted": ([("bert/1", "permuted copy")], changed("permuted-both")),
    "distilbert/from-bert": ([("bert/1", "depth-pruned")], halved),
    "distilbert/1-tuned": ([("distilbert/1", "fine-tune")], tuned("docstrings")),
    "t5/1-tuned": ([("t5/1", "fine-tune")], tuned("topics")),
    "t5/1-permuted": ([("t5/1", "permuted copy")], permuted),
    "mixtral/1-tuned": ([("mixtral/1", "fine-tune")], tuned("docstrings")),
    "mixtral/from-llama": ([("llama/1", "MoE from dense")], upcycled),
}
PARENTS = {name: parents for name, (parents, _) in DERIVED.items()}
# Runs from the random weights of the first run of their shape, on other text.
SAME_START = {"llama/1-start": "modules-b", "gpt2/1-start": "modules-a", "bert/1-start": "docstrings"}

MAKERS = {f"{shape}/{i}": run(1000 + i) for shape, runs in RUNS.items() for i in range(1, runs + 1)}
MAKERS |= {name: run(1001, part) for name, part in SAME_START.items()}
MAKERS |= {name: maker for name, (_, maker) in DERIVED.items()}

# ---- pairs ----------------------------------------------------------------------------------------------------------

# Of several steps, the one that is further down here names the relation.
RANK = ["copy", "cast", "quantised", "fine-tune", "LoRA", "merge", "continued pretraining", "rescaled"]
RANK += ["vocabulary changed", "depth-pruned", "MoE from dense", "permuted copy", "rotated copy", "laundered"]


def lines(name):
    """Each ancestor, and the name itself, with the steps that lead from it."""
    found = {name: []}
    for parent, relation in PARENTS.get(name, []):
        for ancestor, steps in lines(parent).items():
            found[ancestor] = [*steps, relation]
    return found


def roots(name):
    return {ancestor for ancestor in lines(name) if ancestor not in PARENTS}


def pair(a, b):
    """One row: a, b, related, relation, and where one descends from the other, which. The ancestor is a."""
    up_a, up_b = lines(a), lines(b)
    common = up_a.keys() & up_b.keys()
    if not common:
        return [a, b, "0", "none", ""]
    nearest = min(common, key=lambda c: len(up_a[c]) + len(up_b[c]))
    relation = max(up_a[nearest] + up_b[nearest], key=RANK.index)
    if b in common:
        a, b = b, a
    return [a, b, "1", relation, "b descends from a" if a in lines(b) else ""]


def started_alike(a, b):
    first = lambda name: {name.removesuffix("-start") + "-start" for name in roots(name)} & SAME_START.keys()
    return roots(a) != roots(b) and bool(first(a) & first(b))


def write_pairs(out, names):
    tables = {"pairs.tsv": [], "same-start.tsv": []}
    for a, b in itertools.combinations(names, 2):
        if started_alike(a, b):
            tables["same-start.tsv"].append([a, b, "1", "same start", ""])
        else:
            tables["pairs.tsv"].append(pair(a, b))
    for name, rows in tables.items():
        head = ["a", "b", "related", "relation", "direction"]
        (out / name).write_text("".join("\t".join(row) + "\n" for row in [head, *rows]))
    return len(tables["pairs.tsv"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", type=lambda text: text.split(","), help="shapes, separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    losses = options.out / "training.tsv"
    if not losses.exists():
        losses.write_text("model\ttext\tsteps\tlr\tbefore\tafter\tunigram\n")
    names = []
    for name, make in MAKERS.items():
        if options.only and not {a.split("/")[0] for a in lines(name)} <= set(options.only):
            continue
        names.append(name)
        if (options.out / name).exists():
            continue
        build = Build(options.out, name)
        shutil.rmtree(build.folder, ignore_errors=True)
        make(build)
        if build.record:
            with losses.open("a") as file:
                file.write("\t".join([name, *build.record]) + "\n")
        for path in build.folder.iterdir():
            path.chmod(0o644)
        build.folder.rename(options.out / name)
        print(name, *(build.record or []), flush=True)
    print(f"{len(names)} models, {write_pairs(options.out, names)} pairs")


if __name__ == "__main__":
    main()
