//! Finding the table of tensors behind a tokenizer that is not read.
//!
//! Lists of texts do not say how long they are. But headers and data look unlike: so the place where data begin is found
//! by halving, and the table right in front of it. What is found there is only believed if it is a table of as many tensors
//! as the file has, whose data lie one behind the other and end where the file does.

use std::ops::Range;

use super::cursor::{Cursor, Window};

/// Fewest texts of a list that are not read: below, half a megabyte is read sooner.
const FEWEST: u64 = 20_000;
/// Most bytes of a text on average, with what the lists behind it have for each.
const MOST_EACH: u64 = 64;
const LEAST_EACH: u64 = 8;
/// What a place is told by, bytes.
const GLANCE: u64 = 4096;
/// How near the place has to be, and what is read around it.
const NEAR: u64 = 64 * 1024;
/// Bytes of a tensor in the table, with some to spare.
const TENSOR: u64 = 120;
/// Places that are tried as the begin of the table.
const TRIES: usize = 8;

/// The search for the end of a header.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// A place in the header.
    low: u64,
    /// A place in the data, once one was found.
    high: u64,
    is_bounded: bool,
    /// Size of the table, about.
    table: u64,
    /// Whether the place is known, and what is around it was asked for.
    is_near: bool,
}

/// What is to be done.
pub(super) enum Next {
    /// These bytes are needed.
    Look(Range<u64>),
    /// What was read may hold the table.
    Search,
    /// Nothing can be found in this way.
    GiveUp,
}

impl Probe {
    /// Of a header that goes on at this place with so many texts, and has so many tensors; `None` where reading on is better.
    pub(super) fn new(at: u64, texts: u64, tensors: u64, size: u64) -> Option<Self> {
        let table = tensors.checked_mul(TENSOR)?;
        let high =
            at.checked_add(texts.checked_mul(MOST_EACH)?)?.checked_add(table)?.min(size.checked_sub(GLANCE)?);
        // Each has at least its length.
        let low = at.checked_add(texts.checked_mul(LEAST_EACH)?)?;
        let is_worth = texts >= FEWEST && tensors > 0 && high > low;
        is_worth.then_some(Self { low, high, is_bounded: false, table, is_near: false })
    }

    /// What comes next, from the bytes that were asked for last; at first there are none.
    pub(super) fn next(&mut self, window: &Window, size: u64) -> Next {
        let glance = |at: u64| Next::Look(at..at.saturating_add(GLANCE).min(size));
        if self.is_near {
            return Next::Search;
        }
        if window.bytes.is_empty() {
            return glance(self.high);
        }
        match (is_header(&window.bytes), self.is_bounded) {
            (true, false) => return Next::GiveUp,
            (true, true) => self.low = window.start,
            (false, _) => (self.high, self.is_bounded) = (window.start, true),
        }
        if self.high - self.low > NEAR {
            return glance(self.low + (self.high - self.low) / 2);
        }
        self.is_near = true;
        let start = self.low.saturating_sub(self.table + NEAR);
        Next::Look(start..self.high.saturating_add(NEAR).min(size))
    }
}

/// Whether bytes look like texts with their lengths, small numbers or a long text, and not like weights.
fn is_header(bytes: &[u8]) -> bool {
    let count = |is: fn(&u8) -> bool| bytes.iter().filter(|byte| is(byte)).count();
    let printable = count(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let is_texts = count(|byte| *byte == 0) * 8 >= bytes.len() || printable * 10 >= bytes.len() * 9;
    is_texts && !is_weights(bytes)
}

/// Whether most numbers are floats of 32 bits between 2^-31 and 2: weights that had 16 bits have as many zeros as texts.
fn is_weights(bytes: &[u8]) -> bool {
    (0..4).any(|phase| {
        let highest = bytes.iter().skip(phase).step_by(4);
        highest.clone().filter(|byte| *byte & 0x70 == 0x30).count() * 10 >= highest.len() * 9
    })
}

/// Places of the window where a table may begin: with a name, dimensions, a type, and data at 0.
pub(super) fn begins(window: &Window, size: u64, big_endian: bool, name_bytes: usize) -> Vec<u64> {
    let is_begin = |at: &u64| {
        let mut cursor = Cursor { window, at: *at, size, big_endian };
        let name = cursor.name("tensor's name", name_bytes).ok();
        let is_name = name.is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()));
        let mut rest = || {
            let rank = cursor.u32().ok().filter(|rank| (1..=4).contains(rank))?;
            let dimensions = (0..rank).map(|_| cursor.u64().ok()).collect::<Option<Vec<u64>>>()?;
            cursor.u32().ok()?;
            let is_first = cursor.u64().ok()? == 0;
            Some(is_first && dimensions.iter().all(|n| *n > 0))
        };
        is_name && rest() == Some(true)
    };
    (window.start..window.end()).filter(is_begin).take(TRIES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_data_look_unlike() {
        let texts: Vec<u8> = (0..200u64)
            .flat_map(|i| {
                let text = format!("token {i}");
                [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
            })
            .collect();
        let scores: Vec<u8> = (0..1000).flat_map(|i| (-(i as f32)).to_le_bytes()).collect();
        let types: Vec<u8> = [1, 0, 0, 0].repeat(1000);
        let template = "{% for message in messages %}".repeat(100).into_bytes();
        for header in [&texts[1..], &scores[2..], &types[3..], &template] {
            assert!(is_header(header));
        }
        let weight = |i: u32| (f32::from((i.wrapping_mul(2_654_435_761) >> 16) as u16) - 32768.0) / 1e6;
        let floats: Vec<u8> = (0..1000).flat_map(|i| weight(i).to_le_bytes()).collect();
        // As BF16 were before.
        let halves: Vec<u8> =
            (0..1000).flat_map(|i| (weight(i).to_bits() & 0xffff_0000).to_le_bytes()).collect();
        for data in [&floats[1..], &halves[2..]] {
            assert!(!is_header(data));
        }
    }
}
