//! compare against the files of tests/hostile: refused with the file's name, or judged without what they damage;
//! never a panic, never related, never more than 200 MB.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::support::{Cli, Ended, Models, TINY_CONFIG, nobody, tiny, write};

/// A command that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(10);
/// Runs its arguments with at most 200 MB of memory of their own; an allocation beyond that aborts.
const BOUNDED: &str = r#"ulimit -d 204800; exec "$@""#;

const TOKENIZER: &str = r#"{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#;

/// A line of cases.tsv.
struct Case {
    file: String,
    /// The file's name in a checkpoint.
    place: String,
    expected: String,
}

impl Case {
    fn name(&self) -> &str {
        self.file.rsplit_once('.').unwrap().0
    }
}

/// How a large file is made; make.py says what the parts are.
#[derive(Deserialize)]
struct Recipe {
    length: bool,
    text: Vec<(usize, String, usize)>,
    data: Vec<(u64, Option<u8>)>,
}

impl Recipe {
    fn carry_out(&self, path: &Path) {
        let mut text = String::new();
        for (count, unit, step) in &self.text {
            if unit.contains("{0}") {
                for i in 0..*count {
                    let numbers = [("{0}", i), ("{1}", i * step), ("{2}", (i + 1) * step)];
                    text +=
                        &numbers.iter().fold(unit.clone(), |t, (hole, n)| t.replace(hole, &n.to_string()));
                }
            } else {
                text += &unit.repeat(*count);
            }
        }
        let length = if self.length { (text.len() as u64).to_le_bytes().to_vec() } else { Vec::new() };
        write(path, [&length, text.as_bytes()].concat());
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        let mut end = file.seek(SeekFrom::End(0)).unwrap();
        for (count, byte) in &self.data {
            let bytes: Vec<u8> = match byte {
                // A hole in the file: terabytes take no room.
                Some(0) => Vec::new(),
                Some(byte) => vec![*byte; *count as usize],
                None => (0..*count).map(|i| (i * 37 % 120) as u8).collect(),
            };
            file.seek(SeekFrom::Start(end)).unwrap();
            file.write_all(&bytes).unwrap();
            end += count;
        }
        file.set_len(end).unwrap();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile")
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(folder().join("cases.tsv")).unwrap();
    let case = |line: &str| {
        let [file, place, _attack, expected] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        Case { file: file.to_owned(), place: place.to_owned(), expected: expected.to_owned() }
    };
    text.lines().skip(1).map(case).collect()
}

/// A healthy checkpoint with the hostile file in its place.
fn checkpoint(models: &mut Models, case: &Case) -> PathBuf {
    let weights = tiny(1);
    let mut files: Vec<(&str, &[u8])> = vec![("config.json", TINY_CONFIG.as_bytes())];
    match case.place.as_str() {
        // Shards of two sets, so that the index has to be read.
        "model.safetensors.index.json" => files.extend([
            ("model-00001-of-00001.safetensors", weights.as_slice()),
            ("model-00001-of-00002.safetensors", weights.as_slice()),
        ]),
        _ => files.push(("model.safetensors", &weights)),
    }
    match case.place.as_str() {
        "merges.txt" => files.push(("vocab.json", br#"{"a":0,"b":1}"#)),
        // tokenizer.json comes before these.
        "vocab.json" | "vocab.txt" | "tokenizer.model" => {}
        _ => files.push(("tokenizer.json", TOKENIZER.as_bytes())),
    }
    let made = models.add("a/hostile", &files);
    let (source, target) = (folder().join(&case.file), made.join(&case.place));
    if case.file.ends_with(".recipe") {
        let recipe: Recipe = serde_json::from_reader(File::open(source).unwrap()).unwrap();
        recipe.carry_out(&target);
    } else {
        fs::copy(source, target).unwrap();
    }
    made
}

fn compare(a: &Path, b: &Path) -> Ended {
    let cli = Cli::new(&nobody()).with("RAYON_NUM_THREADS", "2").with("TOKIO_WORKER_THREADS", "2");
    let plain = cli.command(&["compare", "--json", a.to_str().unwrap(), b.to_str().unwrap()]);
    let mut bounded = Command::new("/bin/sh");
    bounded.args(["-c", BOUNDED, "sh"]).arg(plain.get_program()).args(plain.get_args());
    bounded.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = assert_cmd::Command::from_std(bounded).timeout(PATIENCE).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn check(name: &str) {
    let cases = cases();
    let case = cases.iter().find(|case| case.name() == name).unwrap();
    let mut models = Models::new();
    let weights = tiny(1);
    let healthy = [
        ("config.json", TINY_CONFIG.as_bytes()),
        ("model.safetensors", &weights),
        ("tokenizer.json", TOKENIZER.as_bytes()),
    ];
    let healthy = models.add("a/healthy", &healthy);
    let ended = compare(&healthy, &checkpoint(&mut models, case));
    if case.expected == "refused" {
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
        // Of missing shards the message names the shards, and the index as such.
        let file = if case.place.contains("index") { "index" } else { &case.place };
        ended.says(&[file]);
        assert!(ended.stderr.len() < 4096, "{} bytes of message", ended.stderr.len());
        return;
    }
    let answer = ended.json();
    let is_unread = answer["models"].as_array().unwrap().iter().any(|model| !model["reason"].is_null());
    assert_eq!(ended.code, Some(i32::from(is_unread)), "{}", ended.stderr);
    for key in ["score", "p_value"] {
        let value = answer[key].as_f64();
        // A prior is no answer.
        assert!(
            value.is_none() && key == "score" || value.is_some_and(|v| (0.0..=1.0).contains(&v)),
            "{answer}"
        );
    }
    let there = |signal: &Value| signal["value"].is_number();
    let any_test = answer["tests"].as_object().unwrap().values().any(there);
    let found = if case.place == "model.safetensors" {
        assert_ne!(answer["related"], true, "{answer}");
        any_test
    } else {
        assert_eq!(answer["verdict"], "identical", "the weights are equal: {answer}");
        match case.place.as_str() {
            "model.safetensors.index.json" => any_test,
            "config.json" => there(&answer["signals"]["MFI"]),
            _ => {
                let found = there(&answer["signals"]["TFV"]);
                assert_eq!(there(&answer["signals"]["VOA"]), found, "{answer}");
                found
            }
        }
    };
    assert_eq!(found, case.expected == "accepted", "{answer}");
}

macro_rules! cases {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

cases! {
    length_2_60 length_2_63 length_2_64 length_past_end length_0 empty_file seven_bytes header_nested
    header_key_1mb header_dtype_1mb header_rank_100000 header_metadata_1mb header_spaces header_duplicate
    header_metadata_twice header_nan header_fraction header_utf8 header_surrogate header_trailing
    header_list header_null header_escape data_cut data_trailing tensors_100000 tensors_nested_names
    shape_overflow shape_bits_overflow shape_beyond_u64 shape_negative shape_half_byte offset_negative
    offset_reversed offset_overlap offset_hole offset_past_end offset_2_64 zero_dimension zero_and_2_40
    zero_overflow zero_everywhere unknown_dtype text_dtype query_1d query_5d query_scalar query_one_row
    query_one_column query_wide query_tall norm_wide norm_matrix embedding_tall embedding_wide
    embedding_1d experts_none experts_flat expert_65536 layer_9999 layer_65536 layer_18446744073709551616
    layers_10000_empty layers_10000_small layers_10000_matrices values_zero values_equal values_nan_f16
    values_nan_f64 values_infinite values_huge_bf16 values_huge_f64 values_wild_f64 values_subnormal
    values_wild_bf16 values_wild_f32 index_parent index_absolute index_folder index_backslash index_nul
    index_empty_name index_hidden index_missing index_itself index_name_1mb index_shards_100000
    index_shards_10000 index_tensors_500001 index_empty_map index_no_map index_list index_numbers
    index_nested index_utf8 index_cut index_size_2_64 index_size_negative index_size_text index_size_list
    index_metadata_list index_foreign_tensors config_empty config_list config_nan config_1e400 config_utf8
    config_trailing config_cut config_nested config_5mb config_4mb config_text_config config_all_null
    config_all_negative config_all_zero config_all_text config_all_list config_all_object
    config_all_fraction config_all_2_64_minus_1 config_all_2_64 config_all_1e308 config_all_true
    config_duplicate config_escape tokenizer_id_2_60 vocab_id_2_60 tokenizer_id_2_64 vocab_id_2_64
    tokenizer_id_negative vocab_id_negative tokenizer_id_fraction vocab_id_fraction tokenizer_id_text
    vocab_id_text tokenizer_id_2_32 vocab_id_2_32 tokenizer_id_2000000 vocab_id_2000000
    tokenizer_id_1999999 tokenizer_id_twice tokenizer_token_twice tokenizer_added_2_60
    tokenizer_added_text tokenizer_nested tokenizer_normalizer_nested tokenizer_normalizers_100000
    tokenizer_merge_number tokenizer_merge_one tokenizer_merge_three tokenizer_merge_no_space
    tokenizer_merge_object tokenizer_merge_null tokenizer_merges_object tokenizer_utf8_cut
    tokenizer_surrogate tokenizer_cut tokenizer_empty tokenizer_no_model tokenizer_list tokenizer_no_bytes
    tokenizer_token_1mb tokenizer_tokens_1000000 tokenizer_tokens_2000001 tokenizer_65mb settings_list
    settings_nested settings_utf8 settings_5mb special_list special_nested special_utf8 special_5mb
    settings_types settings_added_ids settings_length_1e30 settings_template_1mb settings_token_1mb
    vocab_list vocab_trailing vocab_nested vocab_txt_utf8 vocab_txt_empty vocab_txt_line_1mb merges_one
    merges_utf8 pieces_empty pieces_past_end pieces_2_63 pieces_varint pieces_varint_cut
    pieces_inner_past_end pieces_wire_type pieces_group pieces_utf8 pieces_no_text pieces_trainer_ids
    pieces_zeros
}

#[test]
fn every_file_is_a_case_with_a_test() {
    let cases = cases();
    let listed: BTreeSet<&str> = cases.iter().map(Case::name).collect();
    assert_eq!(listed, NAMES.iter().copied().collect(), "cases.tsv, and the tests");
    assert_eq!(listed.len(), cases.len(), "a name twice");
    assert!(cases.iter().all(|case| ["refused", "absent", "accepted"].contains(&case.expected.as_str())));
    let own = ["cases.tsv", "make.py"];
    let files =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter(|name| !own.contains(&name.as_str())).collect();
    assert_eq!(files, cases.iter().map(|case| case.file.clone()).collect(), "the folder, and cases.tsv");
}
