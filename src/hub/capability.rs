//! What this endpoint turned out to support, so that it is not asked twice.
//!
//! A capability is lost only on proof: the shortcut was refused *and* the long way then found the
//! same thing. It can be saved with a run and given to the next one.

use serde::{Deserialize, Serialize};

/// Learnt facts about one endpoint. `None` means not known yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Small files can be read at `/api/resolve-cache/...` without asking `/resolve/` first,
    /// which saves one counted request in two. A caching proxy may not know this route.
    pub resolve_cache: Option<bool>,
    /// A ranged request was answered with exactly that range. From then on, a whole file in answer to one is a
    /// fault worth another try; before, it is what the server does.
    pub ranges: Option<bool>,
}
