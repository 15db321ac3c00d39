//! `hubprint hub serve`

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use futures_util::FutureExt;
use serde_json::json;

use crate::cli::args::ServeArgs;
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::printer;
use crate::cli::watching::stop_signal;
use crate::local_hub::{self, Settings};

pub(in crate::cli) async fn serve(args: ServeArgs) -> Result<Done, Failure> {
    let mut settings = match &args.settings {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Settings::from_toml(&text).with_context(|| path.display().to_string())?
        }
        None => Settings::default(),
    };
    for assignment in &args.set {
        settings.set(assignment).map_err(Failure::usage)?;
    }
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let running = local_hub::start(&args.folder, loopback(args.port), loopback(args.cdn_port), settings)
        .await
        .map_err(Failure::usage)?;
    // Signals are heard from before the line on: a script that waits for it may stop us at once.
    let mut stopped = std::pin::pin!(stop_signal());
    let already = (&mut stopped).now_or_never();
    // One line that a script can wait for.
    printer::json(&json!({"hub": running.hub_url(), "cdn": running.cdn_url()}))?;
    printer::talk(&format!(
        "serving {}; use it with HF_ENDPOINT={}",
        args.folder.display(),
        running.hub_url()
    ));
    match already {
        Some(ended) => ended?,
        None => stopped.await?,
    }
    running.shutdown().await;
    Ok(Done::All)
}
