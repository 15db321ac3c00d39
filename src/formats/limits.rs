//! How much of an untrusted file is believed. One value, passed to every decoder.

/// Upper bounds on what a checkpoint's small files may claim.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest header of a weight file, or pickle of PyTorch, bytes, and most of all headers that are read of one checkpoint. The Python and
    /// JavaScript clients refuse safetensors headers of more than 25 MB; the largest of GGUF have some 16 MB.
    pub header_bytes: u64,
    /// Most tensors in one file. The largest public mixture-of-experts shards hold some 60,000.
    pub tensors: usize,
    /// Longest tensor name, bytes.
    pub name_bytes: usize,
    /// Most dimensions of one tensor.
    pub rank: usize,
    /// Most metadata values of a GGUF file. Public ones have some 60.
    pub values: usize,
    /// Most lists in one another in the metadata of a GGUF file.
    pub nesting: usize,
    /// Largest config.json, bytes.
    pub config_bytes: u64,
    /// Largest `*.safetensors.index.json`, bytes.
    pub index_bytes: u64,
    /// Most shards of one checkpoint.
    pub shards: usize,
    /// Largest file of a tokenizer, bytes. The 33 MB of a vocabulary of 256,000 are the largest in wide use.
    pub tokenizer_bytes: u64,
    /// Most tokens of a vocabulary, and the first id that is refused. Public ones end near 1,000,000.
    pub tokens: usize,
    /// Longest token, bytes. SentencePiece allows itself 512, added tokens are now and then longer.
    pub token_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 25_000_000,
            tensors: 500_000,
            name_bytes: 1024,
            rank: 16,
            values: 65_536,
            nesting: 8,
            config_bytes: 4 << 20,
            index_bytes: 64 << 20,
            shards: 10_000,
            tokenizer_bytes: 64 << 20,
            tokens: 2_000_000,
            token_bytes: 4096,
        }
    }
}
