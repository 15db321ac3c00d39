//! What a crawl may cost. A repository is begun only if it fits beside all that are under way; what does not fit
//! waits for the next crawl. What retries take beyond that, the Hub client refuses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::hub::{Allowance, Hub, HubError, HubErrorKind, Unit, Usage};

/// Most that one crawl may cost. Nothing is limited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetSettings {
    /// Requests to the Hub itself, the listing included; the CDN's are not counted.
    pub max_requests: Option<u64>,
    /// Bytes of answers.
    pub max_bytes: Option<u64>,
    /// Time after which nothing new is begun, e.g. `6h 30m`; what is under way then gets 20 seconds.
    #[serde(deserialize_with = "duration")]
    pub deadline: Option<Duration>,
}

/// Which limit was reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spent {
    /// `max_requests`
    MaxRequests,
    /// `max_bytes`
    MaxBytes,
    /// `deadline`
    Deadline,
}

/// What reading a repository takes, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests to the Hub.
    pub requests: u64,
    /// Bytes of answers.
    pub bytes: u64,
}

/// What is left of a budget.
#[derive(Debug)]
pub struct Budget {
    settings: BudgetSettings,
    hub: Hub,
    before: Usage,
    begun: Instant,
    reserved: Arc<Mutex<Cost>>,
}

/// Part of a budget, given back when dropped: what it was used for is then counted in what was really spent.
#[derive(Debug)]
pub struct Reserved {
    cost: Cost,
    of: Arc<Mutex<Cost>>,
}

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(settings: BudgetSettings, hub: &Hub) -> Self {
        let (before, begun) = (hub.usage(), Instant::now());
        hub.allow(Allowance { requests: settings.max_requests, bytes: settings.max_bytes });
        Self { settings, hub: hub.clone(), before, begun, reserved: Arc::default() }
    }

    /// Reserves what a repository may cost, if it is there.
    pub fn reserve(&self, cost: Cost) -> Result<Reserved, Spent> {
        let usage = self.hub.usage();
        let spent = Cost {
            requests: usage.requests.to_hub() - self.before.requests.to_hub(),
            bytes: usage.bytes_received - self.before.bytes_received,
        };
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        fits(&self.settings, self.begun.elapsed(), spent, *reserved, cost)?;
        reserved.requests += cost.requests;
        reserved.bytes += cost.bytes;
        Ok(Reserved { cost, of: Arc::clone(&self.reserved) })
    }

    /// When nothing new is begun any more.
    pub fn deadline(&self) -> Option<Instant> {
        self.begun.checked_add(self.settings.deadline?)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        // What the client does after the crawl is not of its budget.
        self.hub.allow(Allowance::default());
    }
}

impl Spent {
    /// The limit behind an error, if it is one of the budget.
    pub fn of(error: &HubError) -> Option<Self> {
        match error.kind() {
            HubErrorKind::Spent { what: Unit::Requests, .. } => Some(Self::MaxRequests),
            HubErrorKind::Spent { what: Unit::Bytes, .. } => Some(Self::MaxBytes),
            _ => None,
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut reserved = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.requests -= self.cost.requests;
        reserved.bytes -= self.cost.bytes;
    }
}

/// Waits for a time; for ever where there is none.
pub(super) async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn fits(
    settings: &BudgetSettings,
    elapsed: Duration,
    spent: Cost,
    reserved: Cost,
    cost: Cost,
) -> Result<(), Spent> {
    let over = |most: Option<u64>, of: fn(Cost) -> u64| {
        let sum = of(spent).saturating_add(of(reserved)).saturating_add(of(cost));
        most.is_some_and(|most| sum > most)
    };
    if settings.deadline.is_some_and(|deadline| elapsed >= deadline) {
        Err(Spent::Deadline)
    } else if over(settings.max_requests, |c| c.requests) {
        Err(Spent::MaxRequests)
    } else if over(settings.max_bytes, |c| c.bytes) {
        Err(Spent::MaxBytes)
    } else {
        Ok(())
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_counts() {
        let settings = BudgetSettings { max_requests: Some(10), max_bytes: Some(100), ..Default::default() };
        let cost = |requests, bytes| Cost { requests, bytes };
        let try_with = |spent, reserved| fits(&settings, Duration::ZERO, spent, reserved, cost(3, 30));
        assert_eq!(try_with(cost(4, 40), cost(3, 30)), Ok(()));
        assert_eq!(try_with(cost(5, 40), cost(3, 30)), Err(Spent::MaxRequests));
        assert_eq!(try_with(cost(4, 41), cost(3, 30)), Err(Spent::MaxBytes));
        let settings = BudgetSettings { deadline: Some(Duration::from_secs(5)), ..Default::default() };
        let at = |seconds| {
            let none = Cost::default();
            fits(&settings, Duration::from_secs(seconds), none, none, cost(1, 1))
        };
        assert_eq!((at(4), at(5)), (Ok(()), Err(Spent::Deadline)));
    }

    #[test]
    fn reservations_are_given_back() {
        let hub = Hub::new(crate::hub::HubSettings::new("http://127.0.0.1:9").unwrap()).unwrap();
        let settings = BudgetSettings { max_requests: Some(5), ..Default::default() };
        let budget = Budget::new(settings, &hub);
        let cost = Cost { requests: 3, bytes: 0 };
        let first = budget.reserve(cost).unwrap();
        assert_eq!(budget.reserve(cost).unwrap_err(), Spent::MaxRequests);
        drop(first);
        assert!(budget.reserve(cost).is_ok());
    }
}
