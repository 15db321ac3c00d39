//! Integration tests: the command line, the Hub client and the local Hub server over real HTTP on loopback.

mod hub;
mod server;
