//! Log lines on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use super::args::LogFormat;
use super::printer;

/// Installs the logger: warnings by default, our own lines with `-v`, everything with `-vv`; RUST_LOG wins.
pub(super) fn init(verbose: u8, format: LogFormat) {
    let default = match verbose {
        0 => "warn,hubprint=warn",
        1 => "warn,hubprint=info",
        // Lines of the clients of buckets and of the Hub may hold signed addresses.
        _ => "info,object_store=warn,hf_hub=warn,hubprint=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_span_events(FmtSpan::NONE);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => {
            printer::talk_json();
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            builder.json().init();
        }
    }
}
