//! How criterion measures here: what is timed takes micro- to milliseconds, and a whole run stays within minutes.

use std::time::Duration;

use criterion::Criterion;

/// The arguments of the command line come on top.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .nresamples(10_000)
        .configure_from_args()
}
