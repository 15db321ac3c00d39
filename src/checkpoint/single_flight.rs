//! Single-flight: who wants what another is at waits for it, and then finds it done.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What is being worked on, by key.
#[derive(Clone, Debug)]
pub struct SingleFlight<K>(Arc<Mutex<UnderWay<K>>>);

type UnderWay<K> = HashMap<K, Weak<tokio::sync::Mutex<()>>>;

/// The right to work on one key; others that want it wait until this is dropped.
#[must_use = "dropped at once, it keeps nobody waiting"]
#[derive(Debug)]
pub struct Flight {
    _held: tokio::sync::OwnedMutexGuard<()>,
}

impl<K> Default for SingleFlight<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash> SingleFlight<K> {
    /// Waits until nobody else is at this key.
    pub async fn enter(&self, key: K) -> Flight {
        let lock = {
            // Whole between statements, so a panic elsewhere has not broken it.
            let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.retain(|_, lock| lock.strong_count() > 0);
            let known = under_way.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::default();
                under_way.insert(key, Arc::downgrade(&lock));
                lock
            })
        };
        Flight { _held: lock.lock_owned().await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_key_is_worked_on_by_one_at_a_time() {
        let flights = SingleFlight::default();
        let first = flights.enter("a").await;
        let _another = flights.enter("b").await;
        let again = flights.clone();
        let second = tokio::spawn(async move { again.enter("a").await });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.unwrap());
        drop(flights.enter("c").await);
        assert_eq!(flights.0.lock().unwrap().len(), 2, "of those that are over none is kept");
    }
}
