//! Who writes.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A process that writes, and until when it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// Name of the machine.
    pub host: String,
    /// What tells its boots, and machines of one name, apart; empty where the system does not say.
    pub boot: String,
    /// What the process's number is unique in; empty where the system does not say.
    #[serde(default)]
    pub namespace: String,
    /// The process there.
    pub pid: u32,
    /// When it began.
    pub since: DateTime<Utc>,
    /// Until when the claim holds, unless it is renewed.
    pub expires: DateTime<Utc>,
}

impl Owner {
    /// This process, from `since` on.
    pub(super) fn this(since: DateTime<Utc>, expires: DateTime<Utc>) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self {
            host: host.unwrap_or_else(|| "unknown".into()),
            boot: boot.trim().to_owned(),
            namespace: namespace.to_string_lossy().into_owned(),
            pid: std::process::id(),
            since,
            expires,
        }
    }

    /// Whether two claims are of one process, whenever they were renewed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.host, self.pid, self.since) == (&other.host, other.pid, other.since)
    }

    /// Who is named in a text; nobody where it is empty or not to be understood.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// As it is parsed.
    pub(super) fn to_text(&self) -> Vec<u8> {
        // Plain values: there is nothing that could fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
