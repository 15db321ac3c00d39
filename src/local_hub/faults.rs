//! Misbehaviour on purpose, repeatable.
//!
//! Every request has a number, and the number and the seed decide what goes wrong with it. All
//! kinds are drawn for every request, in a fixed order, so raising one share leaves the victims of
//! the others where they were.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::settings;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fate {
    /// Counts the requests of both origins from 0.
    pub(crate) number: u64,
    pub(crate) error: Option<StatusCode>,
    pub(crate) too_many: bool,
    pub(crate) expire: bool,
    pub(crate) ignore_range: bool,
    /// Share of the body that still arrives.
    pub(crate) truncate: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct Faults {
    settings: settings::FaultSettings,
    requests: AtomicU64,
}

impl Faults {
    pub(crate) fn new(settings: settings::FaultSettings) -> Self {
        Self { settings, requests: AtomicU64::new(0) }
    }

    /// The fate of the next request.
    pub(crate) fn draw(&self) -> Fate {
        self.fate(self.requests.fetch_add(1, Ordering::Relaxed))
    }

    fn fate(&self, number: u64) -> Fate {
        const ERRORS: [StatusCode; 4] = [
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        rng.set_stream(number);
        let mut hit = |share: f64| rng.random::<f64>() < share;
        let (error, too_many, expire) =
            (hit(self.settings.error_5xx), hit(self.settings.too_many), hit(self.settings.expire));
        let (ignore_range, truncate) = (hit(self.settings.ignore_range), hit(self.settings.truncate));
        let which = rng.random_range(0..ERRORS.len());
        let kept = rng.random::<f64>();
        Fate {
            number,
            error: error.then_some(ERRORS[which]),
            too_many,
            expire,
            ignore_range,
            truncate: truncate.then_some(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_and_the_number_decide() {
        let settings =
            settings::FaultSettings { error_5xx: 0.3, truncate: 0.5, ..settings::FaultSettings::default() };
        let (a, b) = (Faults::new(settings.clone()), Faults::new(settings.clone()));
        let drawn: Vec<Fate> = (0..200).map(|_| a.draw()).collect();
        assert_eq!(drawn, (0..200).map(|_| b.draw()).collect::<Vec<_>>());
        let errors = drawn.iter().filter(|fate| fate.error.is_some()).count();
        assert!((30..90).contains(&errors), "{errors} of 200 at a share of 0.3");
        assert!(drawn.iter().all(|fate| !fate.expire && !fate.too_many && !fate.ignore_range));

        let more = Faults::new(settings::FaultSettings { expire: 1.0, ..settings });
        assert!((0..200).all(|i| more.fate(i).error == a.fate(i).error && more.fate(i).expire));
    }
}
