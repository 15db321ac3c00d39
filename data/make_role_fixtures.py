#!/usr/bin/env python3
"""Write tests/fixtures/roles/<model type>.tsv: what transformers stores for each architecture.

    /tmp/demo-venv/bin/python data/make_role_fixtures.py              # all
    /tmp/demo-venv/bin/python data/make_role_fixtures.py llama bert   # some

Each architecture is built from its config class with tiny, mutually different sizes and random weights, saved with
`save_pretrained`, and the names and shapes are read back from the file, because names on disk differ from names in
memory. One line per tensor: name, shape, and what feeds it.

The third column is measured, not looked up: the model runs once, and a module whose input rows are rows that a norm
has put out is fed by that norm. `-` means that no norm feeds it, `?` that the tensor belongs to no module that could
be watched (experts are split only when the file is written) or that the model was not run. A fourth column says `act` where the output goes
straight into the activation function, which tells the gate from the up projection.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from transformers import CONFIG_MAPPING

OUT = Path(__file__).parent.parent / "tests" / "fixtures" / "roles"

# Sizes that differ from one another, so that a shape tells what a tensor is: query rows 48, key rows 24.
HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INNER, EXPERT_INNER, VOCABULARY, LAYERS, EXPERTS = 40, 4, 2, 12, 72, 28, 136, 3, 4

# Every config takes those of these that it knows.
TINY = {
    "hidden_size": HIDDEN, "n_embd": HIDDEN, "d_model": HIDDEN, "dim": HIDDEN,
    "num_attention_heads": HEADS, "n_head": HEADS, "n_heads": HEADS, "num_heads": HEADS,
    "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "d_kv": HEAD_DIM,
    "intermediate_size": INNER, "ffn_dim": INNER, "encoder_ffn_dim": INNER, "decoder_ffn_dim": INNER, "d_ff": INNER,
    "n_inner": INNER, "hidden_dim": INNER, "ffn_hidden_size": INNER,
    "num_hidden_layers": LAYERS, "n_layer": LAYERS, "n_layers": LAYERS, "num_layers": LAYERS,
    "encoder_layers": LAYERS, "decoder_layers": LAYERS, "num_decoder_layers": LAYERS,
    "vocab_size": VOCABULARY, "max_position_embeddings": 64, "n_positions": 64,
    "moe_intermediate_size": EXPERT_INNER, "num_experts": EXPERTS, "num_local_experts": EXPERTS,
    "n_routed_experts": EXPERTS, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
    "forced_eos_token_id": None, "sliding_window": 16,
    "dropout": 0.0, "attention_dropout": 0.0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "dropout_rate": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "hidden_dropout": 0.0,
    "tie_word_embeddings": True,
}  # fmt: skip

# Vision and audio towers have another width, so that no test mistakes them for the language stack.
VISION = {
    "hidden_size": 20, "embed_dim": 20, "d_model": 20, "num_attention_heads": 2, "num_heads": 2, "attention_heads": 2,
    "intermediate_size": 36, "mlp_ratio": 2, "num_hidden_layers": 2, "depth": 2, "num_global_layers": 1,
    "image_size": 28, "patch_size": 14, "out_hidden_size": HIDDEN, "encoder_layers": 2, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 36, "num_mel_bins": 8, "vision_output_dim": 60, "fullatt_block_indexes": [0],
    "deepstack_visual_indexes": [0], "intermediate_layers_indices": [0], "max_num_tiles": 1, "supported_aspect_ratios": [[1, 1]],
    "projector_input_dim": 20, "projector_output_dim": 20,
}  # fmt: skip

CAUSAL, MASKED, SEQ2SEQ, IMAGE, BASE = (
    "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_FOR_MASKED_LM_MAPPING",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
    "MODEL_MAPPING",
)
MLA = {"q_lora_rank": 14, "kv_lora_rank": 18, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 10,
       "first_k_dense_replace": 1, "n_shared_experts": 2, "head_dim": 4, "num_key_value_heads": HEADS}  # fmt: skip
HYBRID = {"mamba_d_head": 20, "mamba_n_heads": 4, "mamba_d_state": 8, "mamba_d_ssm": 80, "mamba_expand": 2,
          "mamba_n_groups": 1, "mamba_chunk_size": 8}  # fmt: skip

# Model type, optional variant after "+": which head, and what is set beyond TINY.
MODELS = {
    "bert": (MASKED, {}),
    "roberta": (MASKED, {}),
    "camembert": (MASKED, {}),
    "xlm-roberta": (MASKED, {}),
    "xlm-roberta-xl": (MASKED, {}),
    "distilbert": (MASKED, {}),
    "albert": (MASKED, {"embedding_size": 16}),
    "electra": (MASKED, {"embedding_size": 16}),
    "deberta": (MASKED, {"pos_att_type": ["c2p", "p2c"], "relative_attention": True}),
    "deberta-v2": (MASKED, {"pos_att_type": ["c2p", "p2c"], "relative_attention": True, "norm_rel_ebd": "layer_norm"}),
    "mpnet": (MASKED, {}),
    "esm": (MASKED, {"position_embedding_type": "rotary"}),
    "modernbert": (MASKED, {"local_attention": 8}),
    "openai-gpt": (CAUSAL, {}),
    "gpt2": (CAUSAL, {}),
    "gpt_neo": (CAUSAL, {"attention_types": [[["global"], 3]], "intermediate_size": INNER}),
    "gptj": (CAUSAL, {"rotary_dim": 4}),
    "codegen": (CAUSAL, {"rotary_dim": 4}),
    "gpt_neox": (CAUSAL, {}),
    "gpt_bigcode": (CAUSAL, {"multi_query": True}),
    "phi": (CAUSAL, {"partial_rotary_factor": 0.4}),
    "falcon": (CAUSAL, {"multi_query": True, "new_decoder_architecture": False, "parallel_attn": True}),
    "falcon+new": (CAUSAL, {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon+rw": (CAUSAL, {"multi_query": False, "new_decoder_architecture": False, "parallel_attn": False}),
    "bloom": (CAUSAL, {}),
    "opt": (CAUSAL, {}),
    "opt+350m": (CAUSAL, {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    "mpt": (CAUSAL, {"expansion_ratio": 2}),
    "xglm": (CAUSAL, {}),
    "biogpt": (CAUSAL, {}),
    "persimmon": (CAUSAL, {"partial_rotary_factor": 0.4}),
    "t5": (SEQ2SEQ, {"feed_forward_proj": "relu"}),
    "mt5": (SEQ2SEQ, {"feed_forward_proj": "gated-gelu"}),
    "umt5": (SEQ2SEQ, {"feed_forward_proj": "gated-gelu"}),
    "bart": (SEQ2SEQ, {}),
    "mbart": (SEQ2SEQ, {}),
    "marian": (SEQ2SEQ, {}),
    "pegasus": (SEQ2SEQ, {}),
    "plbart": (SEQ2SEQ, {}),
    "blenderbot": (SEQ2SEQ, {}),
    "m2m_100": (SEQ2SEQ, {}),
    "whisper": ("MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING", {"num_mel_bins": 8, "max_source_positions": 16,
                                                       "suppress_tokens": None, "begin_suppress_tokens": None}),
    "llama": (CAUSAL, {}),
    "mistral": (CAUSAL, {}),
    "ministral": (CAUSAL, {}),
    "qwen2": (CAUSAL, {}),
    "qwen3": (CAUSAL, {}),
    "gemma": (CAUSAL, {}),
    "gemma2": (CAUSAL, {"query_pre_attn_scalar": HEAD_DIM}),
    "gemma3_text": (CAUSAL, {"query_pre_attn_scalar": HEAD_DIM}),
    "phi3": (CAUSAL, {}),
    "stablelm": (CAUSAL, {"partial_rotary_factor": 0.4}),
    "stablelm+parallel": (CAUSAL, {"partial_rotary_factor": 0.4, "use_parallel_residual": True}),
    "olmo": (CAUSAL, {}),
    "olmo2": (CAUSAL, {}),
    "olmo3": (CAUSAL, {}),
    "exaone4": (CAUSAL, {}),
    "cohere": (CAUSAL, {}),
    "cohere2": (CAUSAL, {}),
    "glm": (CAUSAL, {"partial_rotary_factor": 0.5}),
    "glm4": (CAUSAL, {"partial_rotary_factor": 0.5}),
    "granite": (CAUSAL, {}),
    "nemotron": (CAUSAL, {"partial_rotary_factor": 0.5}),
    "starcoder2": (CAUSAL, {}),
    "smollm3": (CAUSAL, {}),
    "apertus": (CAUSAL, {}),
    "bitnet": (CAUSAL, {}),
    "mixtral": (CAUSAL, {"intermediate_size": EXPERT_INNER}),
    "phimoe": (CAUSAL, {"intermediate_size": EXPERT_INNER}),
    "olmoe": (CAUSAL, {"intermediate_size": EXPERT_INNER}),
    "qwen2_moe": (CAUSAL, {"shared_expert_intermediate_size": 44, "decoder_sparse_step": 1}),
    "qwen3_moe": (CAUSAL, {"decoder_sparse_step": 1}),
    "granitemoe": (CAUSAL, {"intermediate_size": EXPERT_INNER}),
    "deepseek_v2": (CAUSAL, {**MLA, "q_lora_rank": None}),
    "deepseek_v3": (CAUSAL, MLA),
    "glm4_moe": (CAUSAL, {"first_k_dense_replace": 1, "n_shared_experts": 1, "partial_rotary_factor": 0.5}),
    "gpt_oss": (CAUSAL, {"intermediate_size": EXPERT_INNER}),
    "llama4_text": (CAUSAL, {"intermediate_size": EXPERT_INNER, "intermediate_size_mlp": INNER,
                             "interleave_moe_layer_step": 2}),
    "mamba": (CAUSAL, {"expand": 2, "state_size": 6, "time_step_rank": 4}),
    "mamba2": (CAUSAL, {"expand": 2, "state_size": 6, "head_dim": 20, "num_heads": 4, "n_groups": 1, "chunk_size": 8}),
    "falcon_mamba": (CAUSAL, {"expand": 2, "state_size": 6, "time_step_rank": 4}),
    "jamba": (CAUSAL, {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
                       "expert_layer_offset": 1, "mamba_dt_rank": 4, "mamba_d_state": 6, "use_mamba_kernels": False}),
    "bamba": (CAUSAL, {**HYBRID, "attn_layer_indices": [1]}),
    "falcon_h1": (CAUSAL, HYBRID),
    "nemotron_h": (CAUSAL, {**HYBRID, "layers_block_type": ["mamba", "attention", "mlp"], "mamba_num_heads": 4,
                            "mamba_head_dim": 20, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 8}),
    "bert+bare": (BASE, {}),
    "bert+head": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING", {}),
    "distilbert+bare": (BASE, {}),
    "gpt2+bare": (BASE, {}),
    "gpt2+head": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING", {}),
    "gpt_neox+bare": (BASE, {}),
    "opt+bare": (BASE, {}),
    "bloom+bare": (BASE, {}),
    "bart+bare": (BASE, {}),
    "bart+head": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING", {}),
    "llama+bare": (BASE, {}),
    "llama+head": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING", {}),
    "qwen3_vl_moe": (IMAGE, {"text": "qwen3_vl_moe_text", "vision": "qwen3_vl_moe_vision"}),
    "qwen3_5_moe_text": (CAUSAL, {"shared_expert_intermediate_size": 44, "linear_num_key_heads": 2,
                                  "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 8,
                                  "layer_types": ["linear_attention", "full_attention", "full_attention"]}),
    "llava": (IMAGE, {"text": "llama", "vision": "clip_vision_model"}),
    "llava_next": (IMAGE, {"text": "mistral", "vision": "clip_vision_model"}),
    "internvl": (IMAGE, {"text": "qwen2", "vision": "internvl_vision"}),
    "idefics3": (IMAGE, {"text": "llama", "vision": "idefics3_vision"}),
    "smolvlm": (IMAGE, {"text": "llama", "vision": "smolvlm_vision"}),
    "mistral3": (IMAGE, {"text": "mistral", "vision": "pixtral"}),
    "paligemma": (IMAGE, {"text": "gemma", "vision": "siglip_vision_model"}),
    "gemma3": (IMAGE, {"text": "gemma3_text", "vision": "siglip_vision_model"}),
    "mllama": (IMAGE, {"text": "mllama_text_model", "vision": "mllama_vision_model"}),
    "qwen2_vl": (IMAGE, {"text": "qwen2_vl_text", "vision": "qwen2_vl_vision"}),
    "qwen2_5_vl": (IMAGE, {"text": "qwen2_5_vl_text", "vision": "qwen2_5_vl_vision"}),
    "qwen3_vl": (IMAGE, {"text": "qwen3_vl_text", "vision": "qwen3_vl_vision"}),
    "blip-2": (IMAGE, {"text": "opt", "vision": "blip_2_vision_model", "qformer_config": {"hidden_size": 20,
               "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 36, "encoder_hidden_size": 20}}),
    "qwen2_audio": (SEQ2SEQ, {"text": "qwen2", "audio": "qwen2_audio_encoder"}),
    "clip": (BASE, {"text": "clip_text_model", "vision": "clip_vision_model"}),
    "clip_vision_model": (BASE, VISION),
    "siglip": (BASE, {"text": "siglip_text_model", "vision": "siglip_vision_model"}),
    "siglip_vision_model": (BASE, VISION),
    # Families under a prefix of their own, and those with further names.
    "longformer": (MASKED, {"attention_window": 4}),
    "luke": (MASKED, {"entity_vocab_size": 10, "entity_emb_size": 8}),
    "layoutlm": (MASKED, {}),
    "roformer": (MASKED, {"embedding_size": HIDDEN, "rotary_value": False}),
    "ernie": (MASKED, {}),
    "data2vec-text": (MASKED, {}),
    "roberta-prelayernorm": (MASKED, {}),
    "dpr": (BASE, {}),
    "tapas": (MASKED, {}),
    "nomic_bert": (MASKED, {}),
    "gte": (MASKED, {}),
    "jina_embeddings_v3": (MASKED, {}),
    "ctrl": (CAUSAL, {"dff": INNER}),
    "cpmant": (CAUSAL, {"dim_ff": INNER, "dim_head": HEAD_DIM, "prompt_length": 2}),
    "exaone": (CAUSAL, {}),
    "moshi": (CAUSAL, {"ffn_dim": 2 * INNER}),
    "jetmoe": (CAUSAL, {"kv_channels": HEAD_DIM, "num_key_value_heads": 2}),
    "granitemoe_swa": (CAUSAL, {"intermediate_size": EXPERT_INNER, "shared_intermediate_size": 44}),
    "recurrent_gemma": (CAUSAL, {"lru_width": 80, "num_attention_heads": 4, "intermediate_size": 2 * INNER}),
    "nemotron_h+moe": (CAUSAL, {**HYBRID, "layers_block_type": ["mamba", "attention", "moe"], "mamba_num_heads": 4,
                                "mamba_head_dim": 20, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 8,
                                "moe_shared_expert_intermediate_size": 44}),
    "xlstm": (CAUSAL, {}),
    "rwkv": (CAUSAL, {"attention_hidden_size": HIDDEN}),
    "prophetnet": (SEQ2SEQ, {"num_encoder_layers": LAYERS, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4}),
    "switch_transformers": (SEQ2SEQ, {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}),
    "nllb-moe": (SEQ2SEQ, {"encoder_sparse_step": 2, "decoder_sparse_step": 2}),
    "seamless_m4t": (SEQ2SEQ, {}),
    "vit": ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING", VISION),
    "vit+bare": (BASE, VISION),
    "dinov2": (BASE, VISION),
    "wav2vec2": (BASE, {"conv_dim": [8, 8], "conv_stride": [2, 2], "conv_kernel": [3, 3], "num_feat_extract_layers": 2,
                        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}),
}  # fmt: skip
# Text configs of vision-language wrappers that need more than TINY.
TEXT = {
    "mllama_text_model": {"num_hidden_layers": 3, "cross_attention_layers": [1]},
    "qwen2_vl_text": {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2, 2], "rope_theta": 1e4}},
    "qwen2_5_vl_text": {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2, 2], "rope_theta": 1e4}},
    "qwen3_vl_moe_text": {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 1e4}},
    "qwen3_vl_text": {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2, 2], "rope_theta": 1e4}},
}

# Real layouts that need code from their own repositories: names outside the layers, then those of a layer.
H, Q, KV, I, V, E = HIDDEN, HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, INNER, VOCABULARY, EXPERT_INNER  # fmt: skip
LLAMA_MLP = {"mlp.gate_proj": (I, H), "mlp.up_proj": (I, H), "mlp.down_proj": (H, I)}
LLAMA_NORMS = {"input_layernorm": (H,), "post_attention_layernorm": (H,)}
HAND = {
    "hand+baichuan": (
        {"model.embed_tokens": (V, H), "model.norm": (H,), "lm_head": (V, H)},
        "model.layers",
        {"self_attn.W_pack": (3 * H, H), "self_attn.o_proj": (H, H), **LLAMA_MLP, **LLAMA_NORMS},
    ),
    "hand+qwen1": (
        {"transformer.wte": (V, H), "transformer.ln_f": (H,), "lm_head": (V, H)},
        "transformer.h",
        {"attn.c_attn": (3 * H, H), "attn.c_proj": (H, H), "mlp.w1": (I, H), "mlp.w2": (I, H), "mlp.c_proj": (H, I),
         "ln_1": (H,), "ln_2": (H,)},
    ),
    "hand+internlm2": (
        {"model.tok_embeddings": (V, H), "model.norm": (H,), "output": (V, H)},
        "model.layers",
        {"attention.wqkv": (Q + 2 * KV, H), "attention.wo": (H, Q), "feed_forward.w1": (I, H), "feed_forward.w3": (I, H),
         "feed_forward.w2": (H, I), "attention_norm": (H,), "ffn_norm": (H,)},
    ),
    "hand+chatglm3": (
        {"transformer.embedding.word_embeddings": (V, H), "transformer.encoder.final_layernorm": (H,),
         "transformer.output_layer": (V, H)},
        "transformer.encoder.layers",
        {"self_attention.query_key_value": (Q + 2 * KV, H), "self_attention.dense": (H, Q),
         "mlp.dense_h_to_4h": (2 * I, H), "mlp.dense_4h_to_h": (H, I), **LLAMA_NORMS},
    ),
    "hand+phi-1_5": (
        {"transformer.embd.wte": (V, H), "lm_head.ln": (H,), "lm_head.linear": (V, H)},
        "transformer.h",
        {"mixer.Wqkv": (3 * H, H), "mixer.out_proj": (H, H), "mlp.fc1": (I, H), "mlp.fc2": (H, I), "ln": (H,)},
    ),
    "hand+replit": (
        {"transformer.wte": (V, H), "transformer.ln_f": (H,)},
        "transformer.blocks",
        {"attn.Wqkv": (3 * H, H), "attn.out_proj": (H, H), "mlp.mlp_up": (I, H), "mlp.mlp_down": (H, I), "ln_1": (H,),
         "ln_2": (H,)},
    ),
    "hand+meta-llama": (
        {"tok_embeddings": (V, H), "norm": (H,), "output": (V, H)},
        "layers",
        {"attention.wq": (Q, H), "attention.wk": (KV, H), "attention.wv": (KV, H), "attention.wo": (H, Q),
         "feed_forward.w1": (I, H), "feed_forward.w3": (I, H), "feed_forward.w2": (H, I), "attention_norm": (H,),
         "ffn_norm": (H,)},
    ),
    "hand+bert-gamma": (
        {"bert.embeddings.word_embeddings": (V, H), "bert.embeddings.position_embeddings": (64, H),
         "bert.embeddings.LayerNorm.gamma": (H,), "bert.embeddings.LayerNorm.beta": (H,), "bert.pooler.dense": (H, H)},
        "bert.encoder.layer",
        {"attention.self.query": (H, H), "attention.self.key": (H, H), "attention.self.value": (H, H),
         "attention.output.dense": (H, H), "intermediate.dense": (I, H), "output.dense": (H, I),
         "attention.output.LayerNorm.gamma": (H,), "attention.output.LayerNorm.beta": (H,),
         "output.LayerNorm.gamma": (H,), "output.LayerNorm.beta": (H,)},
    ),
    # As Qwen3-VL-MoE is published: experts in one tensor, transposed; transformers 5 turns them round.
    "hand+qwen3_vl_moe": (
        {"model.language_model.embed_tokens": (V, H), "model.language_model.norm": (H,)},
        "model.language_model.layers",
        {"self_attn.q_proj": (Q, H), "self_attn.k_proj": (KV, H), "self_attn.v_proj": (KV, H), "self_attn.o_proj": (H, Q),
         "mlp.gate": (EXPERTS, H), "mlp.experts.gate_up_proj": (EXPERTS, H, 2 * E),
         "mlp.experts.down_proj": (EXPERTS, E, H), **LLAMA_NORMS},
    ),
    # gpt-oss has as many expert rows as hidden dimensions, so one of its matrices is square.
    "hand+gpt_oss-square": (
        {"model.embed_tokens": (V, H), "model.norm": (H,)},
        "model.layers",
        {"self_attn.q_proj": (Q, H), "self_attn.k_proj": (KV, H), "self_attn.v_proj": (KV, H), "self_attn.o_proj": (H, Q),
         "mlp.router": (EXPERTS, H), "mlp.experts.gate_up_proj": (EXPERTS, H, 2 * H),
         "mlp.experts.down_proj": (EXPERTS, H, H), **LLAMA_NORMS},
    ),
    # GPT-BigCode with as many key as query heads.
    "hand+gpt_bigcode-mha": (
        {"transformer.wte": (V, H), "transformer.wpe": (64, H), "transformer.ln_f": (H,)},
        "transformer.h",
        {"attn.c_attn": (3 * H, H), "attn.c_proj": (H, H), "mlp.c_fc": (I, H), "mlp.c_proj": (H, I), "ln_1": (H,),
         "ln_2": (H,)},
    ),
}  # fmt: skip


def record_by_hand(key):
    outside, layers, inside = HAND[key]
    names = outside | {f"{layers}.{i}.{name}": shape for i in range(LAYERS) for name, shape in inside.items()}
    whole = (".gamma", ".beta", "experts.gate_up_proj", "experts.down_proj")
    tensors = sorted((name if name.endswith(whole) else f"{name}.weight", shape) for name, shape in names.items())
    write(key, "recorded by hand", [[name, size(shape), "?", "-"] for name, shape in tensors])


def size(shape):
    return "x".join(map(str, shape)) or "1"


def write(key, source, lines):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{key}.tsv").write_text("".join("\t".join(line) + "\n" for line in [[f"# {source}"], *lines]))


def config_of(model_type, extra, tiny=TINY):
    """The config class of the type with every tiny size that it knows."""
    known = CONFIG_MAPPING[model_type]
    extra = dict(extra)
    parts = {}
    for part in ("text", "vision", "audio"):
        if part in extra:
            kind = extra.pop(part)
            sizes = TINY if part == "text" else VISION
            parts[f"{part}_config"] = config_of(kind, TEXT.get(kind, {}), sizes).to_dict()
    fields = set(known().to_dict()) | set(known.attribute_map)
    values = {} if parts else {k: v for k, v in tiny.items() if k in fields}
    return known(**{**values, **parts, **extra})


class Probe:
    """Watches one run: which norm put out the rows that a module takes in, and what goes into an activation."""

    def __init__(self, model):
        self.rows, self.feeds, self.outputs, self.activated = {}, {}, {}, set()
        for name, module in model.named_modules():
            own = list(module.parameters(recurse=False))
            if "Norm" in type(module).__name__:
                module.register_forward_hook(lambda m, i, o, name=name: self.norm(name, o))
            elif own:
                module.register_forward_hook(lambda m, i, o, name=name: self.matrix(name, i, o))
            elif not list(module.children()):
                module.register_forward_hook(lambda m, i, o: self.activation(i))

    @staticmethod
    def row(values):
        if not isinstance(values, torch.Tensor) or not values.is_floating_point() or values.dim() < 2:
            return None
        return values.detach().reshape(-1, values.shape[-1])[-1].contiguous().numpy().tobytes()

    def norm(self, name, output):
        if self.row(output) is not None:
            for values in output.detach().reshape(-1, output.shape[-1]):
                self.rows.setdefault(values.contiguous().numpy().tobytes(), name)

    def matrix(self, name, inputs, output):
        if inputs and (row := self.row(inputs[0])) is not None:
            self.feeds.setdefault(name, self.rows.get(row, "-"))
            if (out := self.row(output)) is not None:
                self.outputs[out] = name

    def activation(self, inputs):
        # Activation modules have neither parameters nor children; dropout is one too, but follows no first matrix.
        if inputs and (row := self.row(inputs[0])) in self.outputs:
            self.activated.add(self.outputs[row])


def inputs_of(model, config):
    ids = torch.arange(3, 11).reshape(1, -1)
    if model.main_input_name == "input_features":
        frames = 2 * getattr(config, "max_source_positions", 16)
        return {"input_features": torch.randn(1, 8, frames), "decoder_input_ids": ids}
    if config.is_encoder_decoder:
        return {"input_ids": ids, "decoder_input_ids": ids + 20}
    return {"input_ids": ids}


def record(key):
    model_type = key.split("+")[0]
    head, extra = MODELS[key]
    config = config_of(model_type, {}, VISION) if extra is VISION else config_of(model_type, extra)
    torch.manual_seed(0)
    model = getattr(transformers.models.auto.modeling_auto, head)[type(config)](config).eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            # Gains too: two norms with equal gains would put out equal rows.
            parameter.copy_(torch.rand_like(parameter) + 0.5 if parameter.dim() == 1 else torch.randn_like(parameter) * 0.3)
    probe = Probe(model)
    watched = True
    try:
        with torch.no_grad():
            model(**inputs_of(model, config), use_cache=False)
    except Exception as error:  # noqa: BLE001, towers without text cannot run on token ids
        watched = False
        print(f"  {key}: not run: {type(error).__name__}: {str(error)[:100]}")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with safe_open(f"{folder}/model.safetensors", "pt") as file:
            tensors = sorted((name, tuple(file.get_slice(name).get_shape())) for name in file.keys())
            # Random values identify a tensor: the name on disk of each parameter in memory.
            disk = {file.get_tensor(name).numpy().tobytes(): name for name, _ in tensors}
    on_disk = {name: disk.get(t.detach().contiguous().numpy().tobytes()) for name, t in model.state_dict().items()}
    module_of = {d: n for n, d in on_disk.items() if d}

    def norm_on_disk(module):
        return on_disk.get(f"{module}.weight") or on_disk.get(f"{module}.scale") or "-"

    lines = []
    for name, shape in tensors:
        module = module_of.get(name, "").removesuffix(".weight")
        feed = probe.feeds.get(module) if watched and module else None
        feed = "?" if feed is None else feed if feed == "-" else norm_on_disk(feed)
        act = "act" if module in probe.activated else "-"
        lines.append([name, size(shape), feed, act])
    write(key, type(model).__name__, lines)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    failed = []
    for key in sys.argv[1:] or [*MODELS, *HAND]:
        try:
            record_by_hand(key) if key in HAND else record(key)
        except Exception as error:  # noqa: BLE001, report all at once
            failed.append(key)
            print(f"{key}: {type(error).__name__}: {str(error)[:300]}")
    sys.exit(f"failed: {failed}" if failed else 0)
