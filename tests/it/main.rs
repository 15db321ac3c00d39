//! Integration tests: the command line, the Hub client and the local Hub server over real HTTP on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail; clippy's own exemption covers only #[test] functions"
)]

mod architecture;
mod benchmarks;
mod bucket;
mod checkpoint;
mod compare;
mod components;
mod documents;
mod enumerate;
mod eval;
mod extract;
mod fetch;
mod fingerprints;
mod hostile;
mod hub;
mod index;
mod local_hub;
mod local_hub_made_up;
mod local_hub_uploads;
mod maintenance;
mod mutations;
mod nightly;
mod publish;
mod quirks;
mod run;
mod scan;
mod schemas;
mod screens;
mod support;
mod torch;
mod versions;
mod write;
