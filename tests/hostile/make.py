"""Makes the hostile files of this folder and their index, cases.tsv. Only the standard library; deterministic.

    python make.py

A case is one file of a checkpoint, which is otherwise healthy. Where the file would be large, a recipe stands for it,
which tests/it/hostile.rs carries out:

    {"length": bool,        begin with the length of the text, as safetensors does
     "text": [[count, unit, step], ...],    in the unit, {0} is i, {1} is i * step and {2} is (i + 1) * step
     "data": [[count, byte], ...]}          what follows the text; null is bytes of every kind
"""

import json
import math
import struct
from pathlib import Path

HERE = Path(__file__).parent
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
TOKENIZER, SETTINGS, SPECIAL = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
PIECES = "tokenizer.model"
REFUSED, ABSENT, ACCEPTED = "refused", "absent", "accepted"
CASES = []


def case(name, place, attack, expected, content):
    """Writes the file; content is bytes, text, a JSON value, or a Recipe."""
    if isinstance(content, Recipe):
        file, content = f"{name}.recipe", content.__dict__
    else:
        file = name + Path(place).suffix
    if isinstance(content, (dict, list)):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    assert len(content) < 8192, name
    (HERE / file).write_bytes(content)
    CASES.append((file, place, attack, expected))


class Recipe:
    def __init__(self, *text, length=False, data=()):
        self.length = length
        self.text = [[*part, 0][:3] if isinstance(part, tuple) else [1, part, 0] for part in text]
        self.data = list(data)


def claim(length, rest=b""):
    return struct.pack("<Q", length) + rest


def file(header, data=0):
    """A safetensors file: its header, as bytes, text or value, and so many bytes of data."""
    if isinstance(header, (dict, list)):
        header = json.dumps(header)
    if isinstance(header, str):
        header = header.encode()
    return claim(len(header), header) + bytes(i * 37 % 120 for i in range(data))


def tensor(shape, begin, end, dtype="F16"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


LAYER = "model.layers.0."
QUERY, NORM = LAYER + "self_attn.q_proj.weight", LAYER + "input_layernorm.weight"
OUTPUT, EMBEDDING = LAYER + "self_attn.o_proj.weight", "model.embed_tokens.weight"


def llama(dtype, size, byte):
    """A layer of hidden size 64 whose bytes are all the same."""
    at, header = 0, {}
    shapes = [(EMBEDDING, [320, 64]), (QUERY, [64, 64]), (OUTPUT, [64, 64]), (NORM, [64]), ("model.norm.weight", [64])]
    for name, shape in shapes:
        n = size * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = tensor(shape, at, at + n, dtype)
        at += n
    return Recipe(json.dumps(header), length=True, data=[(at, byte)])


def absurd(name, shape, size, byte=None):
    """A tensor with a role and a shape that does not go with it, in a layer that is otherwise whole."""
    shapes = {EMBEDDING: [320, 64], QUERY: [64, 64], OUTPUT: [64, 64], NORM: [64]}
    shapes.pop(name, None)
    at, header = 0, {}
    for key, sane in shapes.items():
        header[key] = tensor(sane, at, at + 2 * math.prod(sane))
        at += 2 * math.prod(sane)
    header[name] = tensor(shape, at, at + size)
    return Recipe(json.dumps(header), length=True, data=[(at, None), (size, byte)])


def headers():
    for name, length in [("2_60", 1 << 60), ("2_63", 1 << 63), ("2_64", (1 << 64) - 1), ("past_end", 4096), ("0", 0)]:
        case(f"length_{name}", WEIGHTS, "header length", REFUSED, claim(length, b"{}"))
    case("empty_file", WEIGHTS, "no length field", REFUSED, b"")
    case("seven_bytes", WEIGHTS, "half a length field", REFUSED, bytes(7))
    case("header_nested", WEIGHTS, "lists a million deep", REFUSED, Recipe('{"a":', (10**6, "["), length=True))
    case("header_key_1mb", WEIGHTS, "a name of 1 MB", REFUSED,
         Recipe('{"', (10**6, "k"), '":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', length=True))
    case("header_dtype_1mb", WEIGHTS, "a dtype of 1 MB, of a shape that does not fit", REFUSED,
         Recipe('{"a":{"dtype":"', (10**6, "D"), '","shape":[1],"data_offsets":[4,0]}}', length=True))
    case("header_rank_100000", WEIGHTS, "100,000 dimensions", REFUSED,
         Recipe('{"a":{"dtype":"U8","data_offsets":[0,1],"shape":[', (10**5, "1,"), "1]}}", length=True, data=[(1, 0)]))
    case("header_metadata_1mb", WEIGHTS, "metadata of 1 MB, no tensor", ABSENT,
         Recipe('{"__metadata__":{"k":"', (10**6, "v"), '"}}', length=True))
    case("header_spaces", WEIGHTS, "25 MB of spaces, the most that is read", ABSENT,
         Recipe("{", (24_999_998, " "), "}", length=True))
    one = '"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'
    case("header_duplicate", WEIGHTS, "one key twice", REFUSED, file(f"{{{one},{one}}}", 2))
    case("header_metadata_twice", WEIGHTS, "metadata twice", REFUSED, file('{"__metadata__":{},"__metadata__":{}}'))
    case("header_nan", WEIGHTS, "NaN as a dimension", REFUSED, file('{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', 1))
    case("header_fraction", WEIGHTS, "a dimension of 1.5", REFUSED, file({"a": tensor([1.5], 0, 3)}, 3))
    case("header_utf8", WEIGHTS, "a name that is not UTF-8", REFUSED, file(b'{"\xff\xfe":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1))
    case("header_surrogate", WEIGHTS, "half a surrogate pair", REFUSED, file(r'{"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1))
    case("header_trailing", WEIGHTS, "text behind the JSON", REFUSED, file(f"{{{one}}}x", 2))
    case("header_list", WEIGHTS, "a list", REFUSED, file("[]"))
    case("header_null", WEIGHTS, "null", REFUSED, file("null"))
    case("header_escape", WEIGHTS, "a name that clears the terminal", ABSENT, file({"\x1b[2J\x1b]0;x\x07": tensor([1], 0, 2)}, 2))
    case("data_cut", WEIGHTS, "half the data", REFUSED, file({"a": tensor([8], 0, 16)}, 8))
    case("data_trailing", WEIGHTS, "more data than tensors", REFUSED, file({"a": tensor([1], 0, 2)}, 8))
    case("tensors_100000", WEIGHTS, "100,000 tensors without a role", ABSENT,
         Recipe('{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}',
                (10**5, ',"t{0}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'), "}", length=True))
    case("tensors_nested_names", WEIGHTS, "names that are nothing but wrappers and numbers", ABSENT,
         Recipe('{"', (100, "model."), (100, "0."), '":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', length=True))


def shapes():
    many = [1 << 32, 1 << 32, 16]
    case("shape_overflow", WEIGHTS, "a product beyond 64 bits", REFUSED, file({"a": tensor(many, 0, 4)}, 4))
    case("shape_bits_overflow", WEIGHTS, "a product that overflows only in bits", REFUSED, file({"a": tensor([1 << 61], 0, 4)}, 4))
    case("shape_beyond_u64", WEIGHTS, "a dimension beyond 64 bits", REFUSED, file({"a": tensor([1 << 64], 0, 4)}, 4))
    case("shape_negative", WEIGHTS, "a dimension of -1", REFUSED, file({"a": tensor([-1], 0, 4)}, 4))
    case("shape_half_byte", WEIGHTS, "4-bit elements that end within a byte", REFUSED, file({"a": tensor([3], 0, 2, "F4")}, 2))
    case("offset_negative", WEIGHTS, "a negative offset", REFUSED, file({"a": tensor([2], -4, 0)}, 4))
    case("offset_reversed", WEIGHTS, "an end before the beginning", REFUSED, file({"a": tensor([2], 4, 0)}, 4))
    case("offset_overlap", WEIGHTS, "two tensors that overlap", REFUSED, file({"a": tensor([2], 0, 4), "b": tensor([2], 2, 6)}, 6))
    case("offset_hole", WEIGHTS, "bytes that belong to no tensor", REFUSED, file({"a": tensor([1], 0, 2), "b": tensor([1], 4, 6)}, 6))
    case("offset_past_end", WEIGHTS, "data beyond the file", REFUSED, file({"a": tensor([1 << 40], 0, 1 << 41)}, 8))
    case("offset_2_64", WEIGHTS, "an unknown dtype that ends at 2^64 - 1", REFUSED, file({"a": tensor([1], 0, (1 << 64) - 1, "F3")}, 8))
    case("zero_dimension", WEIGHTS, "no rows", ABSENT, file({QUERY: tensor([0, 64], 0, 0)}))
    case("zero_and_2_40", WEIGHTS, "an empty tensor of 2^80 columns", ABSENT, file({QUERY: tensor([0, 1 << 20, 1 << 20], 0, 0)}))
    case("zero_overflow", WEIGHTS, "an empty tensor whose other dimensions overflow first", REFUSED,
         file({QUERY: tensor([1 << 40, 1 << 40, 0], 0, 0)}))
    case("zero_everywhere", WEIGHTS, "embedding and matrices without an element", ABSENT,
         file({EMBEDDING: tensor([0, 64], 0, 0), QUERY: tensor([64, 0], 0, 0), OUTPUT: tensor([0], 0, 0), NORM: tensor([0], 0, 0)}))
    case("unknown_dtype", WEIGHTS, "dtypes of no version", ABSENT, file({EMBEDDING: tensor([2, 2], 0, 8, "F99")}, 8))
    case("text_dtype", WEIGHTS, "a dtype that is a number", REFUSED, file({"a": tensor([1], 0, 2, 16)}, 2))


def roles():
    case("query_1d", WEIGHTS, "a vector as query", ACCEPTED, absurd(QUERY, [64], 128))
    case("query_5d", WEIGHTS, "five dimensions as query", ACCEPTED, absurd(QUERY, [2, 2, 2, 2, 2], 64))
    case("query_scalar", WEIGHTS, "a scalar as query", ACCEPTED, absurd(QUERY, [], 2))
    case("query_one_row", WEIGHTS, "a query of one row", ACCEPTED, absurd(QUERY, [1, 64], 128))
    case("query_one_column", WEIGHTS, "a query of one column", ACCEPTED, absurd(QUERY, [64, 1], 128))
    case("query_wide", WEIGHTS, "a row of 2^40 elements", ACCEPTED, absurd(QUERY, [1, 1 << 40], 1 << 41, 0))
    case("query_tall", WEIGHTS, "2^40 rows", ACCEPTED, absurd(QUERY, [1 << 40, 1], 1 << 41, 0))
    case("norm_wide", WEIGHTS, "2^40 gains", ACCEPTED, absurd(NORM, [1 << 40], 1 << 41, 0))
    case("norm_matrix", WEIGHTS, "a matrix as gains", ACCEPTED, absurd(NORM, [64, 64], 8192))
    case("embedding_tall", WEIGHTS, "a vocabulary of 2^40", ACCEPTED, absurd(EMBEDDING, [1 << 40, 1], 1 << 41, 0))
    case("embedding_wide", WEIGHTS, "a token of 2^40 dimensions", ACCEPTED, absurd(EMBEDDING, [1, 1 << 40], 1 << 41, 0))
    case("embedding_1d", WEIGHTS, "a vector as embedding", ACCEPTED, absurd(EMBEDDING, [64], 128))
    case("experts_none", WEIGHTS, "a stack of no experts", ACCEPTED,
         absurd("model.layers.0.mlp.experts.gate_up_proj", [0, 64, 64], 0))
    case("experts_flat", WEIGHTS, "a stack of experts in two dimensions", ACCEPTED,
         absurd("model.layers.0.mlp.experts.gate_up_proj", [64, 64], 8192))
    case("expert_65536", WEIGHTS, "an expert that is no 16-bit number", ACCEPTED,
         absurd("model.layers.0.mlp.experts.65536.up_proj.weight", [8, 4], 64))
    for layer in (9999, 65536, 1 << 64):
        case(f"layer_{layer}", WEIGHTS, "a layer number", ACCEPTED, absurd(QUERY.replace("0", str(layer)), [8, 4], 64))
    norms = ["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"]
    units = [(10_000, f',"model.layers.{{0}}.{name}.weight":{{"dtype":"F16","shape":[0],"data_offsets":[256,256]}}') for name in norms]
    empty = json.dumps({EMBEDDING: tensor([32, 4], 0, 256)})[:-1]
    case("layers_10000_empty", WEIGHTS, "40,000 gains without an element", ABSENT,
         Recipe(empty, *units, "}", length=True, data=[(256, None)]))
    small = ',"model.layers.{0}.input_layernorm.weight":{"dtype":"F16","shape":[4],"data_offsets":[{1},{2}]}'
    case("layers_10000_small", WEIGHTS, "10,000 layers of four gains", ABSENT,
         Recipe('{"model.embed_tokens.weight":{"dtype":"F16","shape":[32,4],"data_offsets":[80000,80256]}',
                (10_000, small, 8), "}", length=True, data=[(80_256, None)]))
    matrix = ',"model.layers.{0}.self_attn.q_proj.weight":{"dtype":"F16","shape":[64,64],"data_offsets":[{1},{2}]}'
    case("layers_10000_matrices", WEIGHTS, "10,000 layers of one matrix", ACCEPTED,
         Recipe('{"model.embed_tokens.weight":{"dtype":"F16","shape":[32,64],"data_offsets":[81920000,81924096]}',
                (10_000, matrix, 8192), "}", length=True, data=[(1_000_000, None), (80_920_000, 0), (4096, None)]))


def values():
    for name, dtype, size, byte, attack in [
        ("zero", "F16", 2, 0, "nothing but 0"),
        ("equal", "F16", 2, 0x3C, "one value everywhere"),
        ("nan_f16", "F16", 2, 0xFF, "nothing but NaN"),
        ("nan_f64", "F64", 8, 0xFF, "nothing but NaN"),
        ("infinite", "F8_E5M2", 1, 0x7C, "nothing but infinity"),
        ("huge_bf16", "BF16", 2, 0x7F, "values whose squares overflow"),
        ("huge_f64", "F64", 8, 0x7F, "values beyond single precision"),
        ("wild_f64", "F64", 8, None, "values of every magnitude, most beyond single precision"),
        ("subnormal", "F32", 4, 0x00, "nothing but 0, in single precision"),
    ]:
        case(f"values_{name}", WEIGHTS, attack, ABSENT, llama(dtype, size, byte))
    for dtype, size in [("BF16", 2), ("F32", 4)]:
        case(f"values_wild_{dtype.lower()}", WEIGHTS, "values of every magnitude", ACCEPTED, llama(dtype, size, None))


def indices():
    def naming(shard):
        return json.dumps({"weight_map": {EMBEDDING: shard}})

    for name, shard in [("parent", "../x.safetensors"), ("absolute", "/etc/passwd"), ("folder", "a/b.safetensors"),
                        ("backslash", "..\\x"), ("nul", "a\0b"), ("empty_name", ""), ("hidden", ".hidden")]:
        case(f"index_{name}", INDEX, f"shard {shard!r}", REFUSED, naming(shard))
    # Of what is not there nothing is read, and the shards beside are.
    for name, shard in [("missing", "model-00002-of-00002.safetensors"), ("itself", INDEX)]:
        case(f"index_{name}", INDEX, f"shard {shard!r}", ACCEPTED, naming(shard))
    case("index_name_1mb", INDEX, "a shard name of 1 MB", REFUSED, Recipe('{"weight_map":{"a":"', (10**6, "s"), '"}}'))
    case("index_shards_100000", INDEX, "100,000 shards", REFUSED, Recipe('{"weight_map":{"t":"s"', (10**5, ',"t{0}":"s{0}"'), "}}"))
    case("index_shards_10000", INDEX, "10,000 shards, the most that is read, all missing", ACCEPTED,
         Recipe('{"weight_map":{"t0":"s0"', (10**4, ',"t{0}":"s{0}"'), "}}"))
    case("index_tensors_500001", INDEX, "a tensor too many", REFUSED,
         Recipe('{"weight_map":{"t":"s"', (500_000, ',"{0}":"s"'), "}}"))
    case("index_empty_map", INDEX, "no tensor", REFUSED, {"weight_map": {}})
    case("index_no_map", INDEX, "no map", REFUSED, {})
    case("index_list", INDEX, "a list", REFUSED, "[]")
    case("index_numbers", INDEX, "shards that are numbers", REFUSED, {"weight_map": {"a": 1}})
    case("index_nested", INDEX, "metadata a million deep", REFUSED, Recipe('{"metadata":{"x":', (10**6, "[")))
    case("index_utf8", INDEX, "a name that is not UTF-8", REFUSED, b'{"weight_map":{"\xff":"s"}}')
    case("index_cut", INDEX, "half the file", REFUSED, '{"weight_map":{"a":"model-0000')
    healthy = {EMBEDDING: "model-00001-of-00001.safetensors"}
    for name, size in [("2_64", 1 << 64), ("negative", -1), ("text", "12"), ("list", [1])]:
        case(f"index_size_{name}", INDEX, "total_size", ACCEPTED, {"metadata": {"total_size": size}, "weight_map": healthy})
    case("index_metadata_list", INDEX, "metadata that is a list", ACCEPTED, {"metadata": [], "weight_map": healthy})
    case("index_foreign_tensors", INDEX, "tensors that no shard holds", ACCEPTED,
         {"weight_map": healthy | {f"model.layers.{i}.self_attn.q_proj.weight": healthy[EMBEDDING] for i in range(9, 50)}})


def configs():
    case("config_empty", CONFIG, "no JSON", REFUSED, b"")
    case("config_list", CONFIG, "a list", REFUSED, "[]")
    case("config_nan", CONFIG, "NaN", ABSENT, '{"rope_theta":NaN}')
    case("config_1e400", CONFIG, "a number beyond double precision", REFUSED, '{"rope_theta":1e400}')
    case("config_utf8", CONFIG, "a string that is not UTF-8", REFUSED, b'{"model_type":"\xff"}')
    case("config_trailing", CONFIG, "text behind the JSON", REFUSED, "{} {}")
    case("config_cut", CONFIG, "half the file", REFUSED, '{"model_type":"lla')
    case("config_nested", CONFIG, "text_config 100,000 deep", REFUSED, Recipe((10**5, '{"text_config":'), "1", (10**5, "}")))
    case("config_5mb", CONFIG, "more than is read", REFUSED, Recipe("{", (5 << 20, " "), "}"))
    case("config_4mb", CONFIG, "as much as is read", ACCEPTED, Recipe('{"model_type":"', (4_000_000, "x"), '"}'))
    case("config_text_config", CONFIG, "text_config 100 deep", ABSENT, Recipe((100, '{"text_config":'), '{"hidden_size":64}', (100, "}")))
    keys = ["model_type", "architectures", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "head_dim", "intermediate_size", "num_local_experts", "vocab_size", "max_position_embeddings", "rope_theta",
            "rope_parameters", "rms_norm_eps", "hidden_act", "tie_word_embeddings", "dtype", "quantization_config", "text_config"]
    wrong = {"null": None, "negative": -1, "zero": 0, "text": "x", "list": [[]], "object": {"x": {}}, "fraction": 0.5,
             "2_64_minus_1": (1 << 64) - 1, "2_64": 1 << 64, "1e308": 1e308, "true": True}
    for name, value in wrong.items():
        case(f"config_all_{name}", CONFIG, "every field of this value", ABSENT if value is None else ACCEPTED, dict.fromkeys(keys, value))
    case("config_duplicate", CONFIG, "one key twice, the last of a wrong type", ABSENT, '{"hidden_size":64,"hidden_size":"x"}')
    case("config_escape", CONFIG, "a type that clears the terminal", ACCEPTED, {"model_type": "\x1b[2J\x1b]0;x\x07\u202e"})


def tokenizers():
    def tokenizer(vocab, **more):
        return json.dumps({"model": {"type": "BPE", "vocab": vocab} | more.pop("model", {})} | more)

    ids = {"a": 0, "b": 1}
    for name, token in [("2_60", 1 << 60), ("2_64", 1 << 64), ("negative", -1), ("fraction", 0.5), ("text", "0"),
                        ("2_32", 1 << 32), ("2000000", 2_000_000)]:
        case(f"tokenizer_id_{name}", TOKENIZER, "an id", ABSENT, tokenizer({"a": token}))
        case(f"vocab_id_{name}", "vocab.json", "an id", ABSENT, {"a": token})
    case("tokenizer_id_1999999", TOKENIZER, "the highest id that is read", ACCEPTED, tokenizer({"a": 1_999_999}))
    case("tokenizer_id_twice", TOKENIZER, "two tokens of one id", ABSENT, tokenizer({"a": 0, "b": 0}))
    case("tokenizer_token_twice", TOKENIZER, "one token of two ids", ACCEPTED, '{"model":{"vocab":{"a":0,"a":1}}}')
    case("tokenizer_added_2_60", TOKENIZER, "an added id", ABSENT, tokenizer(ids, added_tokens=[{"id": 1 << 60, "content": "x"}]))
    case("tokenizer_added_text", TOKENIZER, "added tokens that are text", ABSENT, tokenizer(ids, added_tokens="x"))
    case("tokenizer_nested", TOKENIZER, "a vocabulary a million deep", ABSENT, Recipe('{"model":{"vocab":', (10**6, "[")))
    case("tokenizer_normalizer_nested", TOKENIZER, "a normalizer 100,000 deep", ABSENT,
         Recipe('{"model":{"vocab":{"a":0}},"normalizer":', (10**5, '{"normalizers":['), (10**5, "]}"), "}"))
    case("tokenizer_normalizers_100000", TOKENIZER, "100,000 normalizers", ACCEPTED,
         Recipe('{"model":{"vocab":{"a":0}},"normalizer":{"type":"Sequence","normalizers":[', (10**5, '{"type":"NFC"},'), '{"type":"NFC"}]}}'))
    for name, merge in [("number", 1), ("one", ["a"]), ("three", ["a", "b", "c"]), ("no_space", "ab"), ("object", {}), ("null", None)]:
        case(f"tokenizer_merge_{name}", TOKENIZER, "a merge that is not two tokens", ABSENT, tokenizer(ids, model={"merges": [merge]}))
    case("tokenizer_merges_object", TOKENIZER, "merges that are no list", ABSENT, tokenizer(ids, model={"merges": {"a": "b"}}))
    case("tokenizer_utf8_cut", TOKENIZER, "half a character", ABSENT, b'{"model":{"vocab":{"\xe2\x82":0}}}')
    case("tokenizer_surrogate", TOKENIZER, "half a surrogate pair", ABSENT, r'{"model":{"vocab":{"\ud800":0}}}')
    case("tokenizer_cut", TOKENIZER, "half the file", ABSENT, tokenizer(ids)[:-9])
    case("tokenizer_empty", TOKENIZER, "no token", ABSENT, tokenizer({}))
    case("tokenizer_no_model", TOKENIZER, "no model", ABSENT, {"added_tokens": []})
    case("tokenizer_list", TOKENIZER, "a list", ABSENT, "[]")
    case("tokenizer_no_bytes", TOKENIZER, "nothing", ABSENT, b"")
    case("tokenizer_token_1mb", TOKENIZER, "a token of 1 MB", ABSENT, Recipe('{"model":{"vocab":{"', (10**6, "a"), '":0}}}'))
    case("tokenizer_tokens_1000000", TOKENIZER, "a million tokens", ACCEPTED, 
         Recipe('{"model":{"vocab":{"a":1000000', (10**6, ',"{0}b":{0}'), "}}}"))
    case("tokenizer_tokens_2000001", TOKENIZER, "a token too many", ABSENT, Recipe('{"model":{"type":"Unigram","vocab":[["a",0]', (2 * 10**6, ',["",0]'), "]}}"))
    case("tokenizer_65mb", TOKENIZER, "more than is read", ABSENT, Recipe("{", (65 << 20, " "), "}"))
    for place, short in [(SETTINGS, "settings"), (SPECIAL, "special")]:
        case(f"{short}_list", place, "a list", ABSENT, "[]")
        case(f"{short}_nested", place, "100,000 deep", ABSENT, Recipe('{"bos_token":', (10**5, "["), (10**5, "]"), "}"))
        case(f"{short}_utf8", place, "a string that is not UTF-8", ABSENT, b'{"bos_token":"\xff"}')
        case(f"{short}_5mb", place, "more than is read", ABSENT, Recipe("{", (5 << 20, " "), "}"))
    case("settings_types", SETTINGS, "wrong types everywhere", ACCEPTED,
         {"bos_token": 1, "eos_token": [], "pad_token": {"content": 1}, "model_max_length": "x", "chat_template": 1,
          "do_lower_case": "x", "added_tokens_decoder": [1], "tokenizer_class": {}})
    case("settings_added_ids", SETTINGS, "ids that are no numbers", ACCEPTED,
         {"added_tokens_decoder": {"-1": {"content": "x"}, "x": {"content": "y"}, str(1 << 70): {"content": "z"}}})
    case("settings_length_1e30", SETTINGS, "the length that transformers writes for none", ACCEPTED, '{"model_max_length":1000000000000000019884624838656}')
    case("settings_template_1mb", SETTINGS, "a chat template of 1 MB", ACCEPTED, Recipe('{"chat_template":"', (10**6, "{"), '"}'))
    case("settings_token_1mb", SETTINGS, "a special token of 1 MB", ACCEPTED, Recipe('{"bos_token":"', (10**6, "x"), '"}'))
    case("vocab_list", "vocab.json", "a list", ABSENT, "[]")
    case("vocab_trailing", "vocab.json", "text behind the JSON", ABSENT, '{"a":0} x')
    case("vocab_nested", "vocab.json", "a million deep", ABSENT, Recipe('{"a":', (10**6, "[")))
    case("vocab_txt_utf8", "vocab.txt", "a token that is not UTF-8", ABSENT, b"a\n\xff\n")
    case("vocab_txt_empty", "vocab.txt", "no token", ABSENT, b"")
    case("vocab_txt_line_1mb", "vocab.txt", "a line of 1 MB", ABSENT, Recipe((10**6, "a")))
    case("merges_one", "merges.txt", "a line of one token", ABSENT, "#version: 0.2\nab\n")
    case("merges_utf8", "merges.txt", "a line that is not UTF-8", ABSENT, b"a \xff\n")


def pieces():
    case("pieces_empty", PIECES, "no piece", ABSENT, b"")
    case("pieces_past_end", PIECES, "a piece longer than the file", ABSENT, b"\x0a\x7f\x0a\x01a")
    case("pieces_2_63", PIECES, "a piece of 2^63 bytes", ABSENT, b"\x0a" + b"\x80" * 9 + b"\x01")
    case("pieces_varint", PIECES, "a number of 11 bytes", ABSENT, b"\x0a" + b"\x80" * 10 + b"\x01")
    case("pieces_varint_cut", PIECES, "half a number", ABSENT, b"\x0a\x80")
    case("pieces_inner_past_end", PIECES, "a text longer than its piece", ABSENT, b"\x0a\x03\x0a\x7fa")
    case("pieces_wire_type", PIECES, "a wire type that does not exist", ABSENT, b"\x0b")
    case("pieces_group", PIECES, "groups a million deep", ABSENT, Recipe((10**6, "\x0b")))
    case("pieces_utf8", PIECES, "a piece that is not UTF-8", ABSENT, b"\x0a\x03\x0a\x01\xff")
    case("pieces_no_text", PIECES, "pieces without text", ACCEPTED, b"\x0a\x00\x0a\x00")
    case("pieces_trainer_ids", PIECES, "special tokens beyond the vocabulary", ACCEPTED,
         b"\x0a\x03\x0a\x01a" + b"\x12\x0b\xc0\x02" + b"\xff" * 8 + b"\x7f")
    case("pieces_zeros", PIECES, "1 MB of zeros", ABSENT, Recipe(data=[(10**6, 0)]))


for old in HERE.iterdir():
    if old.name != Path(__file__).name:
        old.unlink()
for cases in (headers, shapes, roles, values, indices, configs, tokenizers, pieces):
    cases()
lines = ["file\tplace\tattack\texpected", *("\t".join(row) for row in CASES)]
assert len({row[0].rsplit(".", 1)[0] for row in CASES}) == len(CASES)
(HERE / "cases.tsv").write_text("\n".join(lines) + "\n")
