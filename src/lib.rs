//! hubprint: weight fingerprints of the Hugging Face Hub.
pub mod hub;
pub mod server;
