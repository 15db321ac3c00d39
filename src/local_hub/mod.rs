//! The local Hub: a folder of models and datasets, served as the Hugging Face Hub serves its own.
//!
//! Two uses. Tests and demos crawl it instead of the live Hub, with rate limits and faults as they
//! like; and a company without a way out serves its own model store to the usual clients, which
//! need nothing but `HF_ENDPOINT`.
//!
//! | part | file |
//! |---|---|
//! | a folder becomes repositories, and a rule any number more | `catalogue/`, `catalogue/made_up/` |
//! | first origin, the hub: steps of every request, grammar of paths | `hub.rs`, `route.rs`, `ask.rs` |
//! | its answers | `listing/`, `model.rs`, `tree.rs`, `resolve.rs`, `fields.rs` |
//! | uploads, datasets that clients write: on disk, and by which routes | `uploads/`, `write_api/` |
//! | who may see and change what; every error in one table | `access.rs`, `refusal.rs` |
//! | second origin, the CDN: signed addresses, ranges, streamed bodies | `cdn.rs`, `signing.rs`, `download.rs`, `range.rs`, `body.rs` |
//! | quotas, the line, faults, counts | `limits.rs`, `history.rs`, `line.rs`, `faults.rs`, `counters.rs`, `bucket.rs` |
//!
//! What it never does: write to the served folder, serve a file that the scan did not list, read a file
//! into memory to send it, or speak Xet.

mod access;
mod ask;
mod blocking;
mod body;
mod bucket;
mod catalogue;
mod cdn;
mod clock;
mod counters;
mod download;
mod faults;
mod fields;
mod heard;
mod history;
mod hub;
mod limits;
mod line;
mod listing;
mod model;
mod names;
mod query;
mod range;
mod refusal;
mod reply;
mod resolve;
mod route;
mod settings;
mod shared;
mod signing;
mod text;
mod tree;
mod uploads;
mod write_api;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::catalogue::DigestCache;
use self::faults::Faults;
use self::heard::Heard;
use self::limits::Limiter;
use self::line::Line;
use self::shared::Shared;
use self::signing::Signer;
use self::uploads::Store;

pub use self::bucket::PerBucket;
pub use self::catalogue::ScanError;
pub use self::counters::{Counters, FaultCounts, Received};
pub use self::history::WindowCount;
pub use self::settings::{
    Behaviour, FaultSettings, LineSettings, MadeUpSettings, MultiRange, RateLimits, Settings, SettingsError,
    UploadSettings,
};
pub use self::uploads::UploadError;

/// Time that connections get to finish when the server stops.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a local Hub does not start, or does not read its folder again.
#[derive(Debug, thiserror::Error)]
pub enum LocalHubError {
    /// A setting makes no sense.
    #[error("settings: {0}")]
    Settings(#[from] SettingsError),
    /// The folder cannot be served.
    #[error("folder: {0}")]
    Scan(#[from] ScanError),
    /// The folder of uploads cannot be used.
    #[error("write.folder: {0}")]
    Uploads(#[from] UploadError),
    /// A port is taken or forbidden.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The system has no random bytes to sign addresses with.
    #[error("no random bytes: {0}")]
    Entropy(#[from] rand::rngs::SysError),
    /// The scan of the folder did not come to an end.
    #[error("the scan ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A server that answers. Dropping it stops it at once; [`Running::shutdown`] lets it finish.
pub struct Running {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    origins: Vec<JoinHandle<()>>,
}

/// Scans `dir` and serves it on two addresses; port 0 takes a free one.
pub async fn start(
    dir: &Path,
    hub: SocketAddr,
    cdn: SocketAddr,
    settings: Settings,
) -> Result<Running, LocalHubError> {
    settings.check()?;
    let (hub_listener, hub_url) = listen(hub, &settings).await?;
    let (cdn_listener, cdn_url) = listen(cdn, &settings).await?;
    let (folder, digests, made_up) = (dir.to_owned(), DigestCache::default(), settings.made_up.clone());
    let (digests, catalogue, store) = tokio::task::spawn_blocking({
        let (folder, uploads) = (folder.clone(), settings.uploads.folder.clone());
        move || {
            let catalogue = catalogue::scan(&folder, &digests, &made_up)?;
            let store = uploads.as_deref().map(Store::open).transpose()?;
            Ok::<_, LocalHubError>((digests, catalogue, store.map(Arc::new)))
        }
    })
    .await??;
    let shared = Arc::new(Shared {
        limiter: Limiter::new(settings.limits.clone()),
        line: Arc::new(Line::new(&settings.line)),
        faults: Faults::new(settings.faults.clone()),
        signer: Signer::new()?,
        tally: Arc::default(),
        heard: Heard::default(),
        catalogue: RwLock::new(Arc::new(catalogue)),
        store,
        settings,
        folder,
        digests,
        hub_url,
        cdn_url,
    });
    let (stop, stopping) = watch::channel(false);
    let hub_routes = Router::new()
        .route(hub::COUNTERS, get(hub::counters))
        .fallback(hub::serve)
        .with_state(Arc::clone(&shared));
    let cdn_routes = Router::new().fallback(cdn::serve).with_state(Arc::clone(&shared));
    let origins =
        vec![spawn(hub_listener, hub_routes, stopping.clone()), spawn(cdn_listener, cdn_routes, stopping)];
    Ok(Running { shared, stop, origins })
}

/// Opens a port and says by which address clients reach it.
async fn listen(address: SocketAddr, settings: &Settings) -> Result<(TcpListener, String), LocalHubError> {
    let at = |source| LocalHubError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(at)?;
    let bound = listener.local_addr().map_err(at)?;
    let url = match &settings.public_host {
        None => format!("http://{bound}"),
        Some(host) => format!("http://{host}:{}", bound.port()),
    };
    Ok((listener, url))
}

fn spawn(listener: TcpListener, routes: Router, mut stopping: watch::Receiver<bool>) -> JoinHandle<()> {
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    // Head and body are two writes. Held together by the system, the second waits 40 ms for the client's word on the
    // first.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::warn!(%error, "answers of the local hub will be slow");
        }
    });
    tokio::spawn(async move {
        let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
        if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "an origin of the local hub failed");
        }
    })
}

impl Running {
    /// Origin of the hub, `http://127.0.0.1:8000`: what clients take as `HF_ENDPOINT`.
    pub fn hub_url(&self) -> &str {
        &self.shared.hub_url
    }

    /// Origin of the CDN.
    pub fn cdn_url(&self) -> &str {
        &self.shared.cdn_url
    }

    /// What has been done so far.
    pub fn counters(&self) -> Counters {
        self.shared.tally.read()
    }

    /// The heads of the latest thousand requests to the CDN, whatever became of them.
    pub fn sent_to_cdn(&self) -> Vec<String> {
        self.shared.heard.list()
    }

    /// What the rate limiter let through and refused in each window of each client, by bucket in
    /// the order in which they were opened; the latest 10,000 of a bucket.
    pub fn windows(&self) -> PerBucket<Vec<WindowCount>> {
        self.shared.limiter.windows()
    }

    /// Reads the folder again. Requests under way keep the snapshot they started with.
    pub async fn rescan(&self) -> Result<(), LocalHubError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let catalogue =
                Arc::new(catalogue::scan(&shared.folder, &shared.digests, &shared.settings.made_up)?);
            *shared.catalogue.write().unwrap_or_else(PoisonError::into_inner) = catalogue;
            Ok(())
        })
        .await?
    }

    /// Stops listening, gives answers under way two seconds, then ends.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for origin in &mut self.origins {
            // Past the deadline, dropping `self` ends what is left.
            let _ = tokio::time::timeout_at(deadline, origin).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for origin in &self.origins {
            origin.abort();
        }
        if let Some(store) = &self.shared.store {
            store.close();
        }
    }
}
