//! The local Hub server.
