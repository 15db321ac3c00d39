//! hubprint: weight fingerprints of the Hugging Face Hub.
pub mod formats;
pub mod hub;
pub mod retrieval;
pub mod server;
pub mod signals;
pub mod store;
