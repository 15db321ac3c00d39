//! Other ways to look at a model, each run in a process of its own.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use hubprint::formats::safetensors::{Decoded, try_decode};
use hubprint::formats::{Dtype, Header, Limits};
use hubprint::hub::{Hub, HubSettings, RemoteFile, RepoEntry, RepoRef};
use hubprint::pipeline::process::{cpu_seconds, peak_memory_bytes};
use hubprint::signals::roles;
use serde_json::Value;

use super::hub::Took;

/// Blocks of a matrix, evenly spread, and elements of a block: the best reader of ranges that is published.
const BLOCKS: u64 = 32;
const ELEMENTS: u64 = 16_384;
/// Ranges and downloads at once.
const PARALLEL: usize = 8;
/// Plans of more bytes are not read.
const MOST_READ: u64 = 2_000_000_000;

const HEADERS: &str = "
import json, resource, sys, time
from huggingface_hub import get_safetensors_metadata
begun = time.time()
get_safetensors_metadata(sys.argv[1])
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({'seconds': time.time() - begun, 'cpu_seconds': usage.ru_utime + usage.ru_stime,
                  'peak_memory_bytes': usage.ru_maxrss * 1024}))
";

/// Runs one way to look at a model in a process; `None` where it cannot be, or would read too much.
pub(crate) fn child(method: &str, url: &str, id: &str) -> Option<Took> {
    let mut command = if method == "headers" {
        // Set by benches/cost.sh: a Python that has huggingface_hub.
        let mut command = Command::new(std::env::var_os("HUBPRINT_PYTHON")?);
        command.args(["-c", HEADERS, id]).env("HF_ENDPOINT", url);
        command
    } else {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--one", method, url, id]);
        command
    };
    let home = tempfile::tempdir().unwrap();
    let output = command.env("HF_HOME", home.path()).env_remove("HF_TOKEN").output().unwrap();
    assert!(output.status.success(), "{method} of {id}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Bytes of all blocks of a model.
pub(crate) fn blocks(folder: &Path, id: &str) -> u64 {
    let served = super::hub::Hub::serve(folder, &[]);
    let plan = block_on(async { Model::open(&served.url, id).await.blocks() });
    plan.iter().map(|(_, range)| range.end - range.start).sum()
}

/// What a child does: its costs as JSON, `null` where it would read too much.
pub(crate) fn run(method: &str, url: &str, id: &str) -> String {
    let begun = Instant::now();
    let done = block_on(async {
        match method {
            "blocks" => Model::open(url, id).await.read_blocks().await,
            "download" => download(url, id).await,
            other => unreachable!("no way {other:?}"),
        }
    });
    let took = done.then(|| Took {
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds().unwrap(),
        peak_memory_bytes: peak_memory_bytes().unwrap(),
    });
    serde_json::to_string(&took).unwrap()
}

/// A model on the Hub with all its headers.
struct Model {
    hub: Hub,
    files: Vec<RemoteFile>,
    headers: Vec<Header>,
}

impl Model {
    async fn open(url: &str, id: &str) -> Self {
        let hub = Hub::new(HubSettings::new(url).unwrap()).unwrap();
        let repo: RepoRef = id.parse().unwrap();
        let entry: RepoEntry = hub.info(&repo.id, None).await.unwrap();
        let sha = entry.sha.unwrap();
        let (mut files, mut headers) = (Vec::new(), Vec::new());
        for path in entry.siblings.unwrap().iter().filter(|path| path.ends_with(".safetensors")) {
            let file = hub.open(&repo.id, &sha, path).await.unwrap();
            let mut prefix = Vec::new();
            let header = loop {
                match try_decode(&prefix, file.size(), &Limits::default()).unwrap() {
                    Decoded::Done(header) => break header,
                    Decoded::Need(end) => {
                        let more = hub.read_range(&file, prefix.len() as u64..end).await.unwrap();
                        prefix.extend_from_slice(&more);
                    }
                }
            };
            files.push(file);
            headers.push(header);
        }
        Self { hub, files, headers }
    }

    /// The blocks of every matrix that has a role.
    fn blocks(&self) -> Vec<(usize, std::ops::Range<u64>)> {
        let mut all = Vec::new();
        for (file, header) in self.headers.iter().enumerate() {
            let matrices =
                header.tensors.iter().filter(|t| t.shape.len() >= 2 && roles::position(&t.name).is_some());
            for tensor in matrices {
                let size = tensor.bytes.end - tensor.bytes.start;
                let block = (ELEMENTS * tensor.dtype.map_or(8, Dtype::bits) / 8).min(size);
                let places = BLOCKS.min(size / block.max(1)).max(1);
                all.extend((0..places).map(|i| {
                    let begin = tensor.bytes.start + i * (size - block) / places.max(2).saturating_sub(1);
                    (file, begin..begin + block)
                }));
            }
        }
        all
    }

    async fn read_blocks(&self) -> bool {
        let blocks = self.blocks();
        if blocks.iter().map(|(_, range)| range.end - range.start).sum::<u64>() > MOST_READ {
            return false;
        }
        let read = blocks.into_iter().map(|(file, range)| self.hub.read_range(&self.files[file], range));
        stream::iter(read).buffer_unordered(PARALLEL).try_for_each(|_| async { Ok(()) }).await.unwrap();
        true
    }
}

/// Everything, as a tool does that loads a model before it looks at it.
async fn download(url: &str, id: &str) -> bool {
    let client = reqwest::Client::new();
    let info: Value = serde_json::from_slice(
        &client.get(format!("{url}/api/models/{id}")).send().await.unwrap().bytes().await.unwrap(),
    )
    .unwrap();
    let names =
        info["siblings"].as_array().unwrap().iter().map(|f| f["rfilename"].as_str().unwrap().to_owned());
    let fetch = |name: String| {
        let request = client.get(format!("{url}/{id}/resolve/main/{name}"));
        async move {
            let mut answer = request.send().await.unwrap().error_for_status().unwrap();
            while answer.chunk().await.unwrap().is_some() {}
        }
    };
    stream::iter(names).map(fetch).buffer_unordered(PARALLEL).collect::<Vec<()>>().await;
    true
}

/// A JSON answer.
pub(crate) fn get(url: &str) -> Value {
    let body = block_on(async { reqwest::get(url).await.unwrap().bytes().await.unwrap() });
    serde_json::from_slice(&body).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}
