//! Client side of the Hub protocol.
