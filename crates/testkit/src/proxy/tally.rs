//! Counts of what went through the proxy. It decides nothing.

use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Requests and the bytes of their bodies, without heads and chunk framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Bytes of request bodies that were passed on to the server.
    pub sent_bytes: u64,
    /// Bytes of answers that were passed on to the client.
    pub received_bytes: u64,
    /// Requests that suffered a fault.
    pub faults: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.faults += other.faults;
    }
}

/// Counts by method and path.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    next: u64,
    counts: BTreeMap<(String, String), Count>,
}

impl Tally {
    /// Counts a request; answers its number and how many with the same method and path came before.
    pub(super) fn begin(&mut self, method: &str, path: &str) -> (u64, u64) {
        let number = self.next;
        self.next += 1;
        let count = self.count(method, path);
        count.requests += 1;
        (number, count.requests - 1)
    }

    /// The count of a method and path, to be added to.
    pub(super) fn count(&mut self, method: &str, path: &str) -> &mut Count {
        self.counts.entry((method.to_owned(), path.to_owned())).or_default()
    }

    /// Of requests with this method (any, when empty) whose path starts with the prefix.
    pub fn of(&self, method: &str, path_prefix: &str) -> Count {
        let mut sum = Count::default();
        for ((m, path), count) in &self.counts {
            if (method.is_empty() || m == method) && path.starts_with(path_prefix) {
                sum += *count;
            }
        }
        sum
    }

    /// Of all requests.
    pub fn total(&self) -> Count {
        self.of("", "")
    }

    /// Method, path and count of everything, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Count)> {
        self.counts.iter().map(|((method, path), count)| (method.as_str(), path.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_by_method_and_prefix() {
        let mut tally = Tally::default();
        assert_eq!(tally.begin("GET", "/b/a"), (0, 0));
        assert_eq!(tally.begin("PUT", "/b/a"), (1, 0));
        assert_eq!(tally.begin("GET", "/b/a"), (2, 1));
        assert_eq!(tally.begin("GET", "/c"), (3, 0));
        tally.count("GET", "/b/a").received_bytes += 10;
        tally.count("PUT", "/b/a").sent_bytes += 7;
        assert_eq!(tally.of("GET", "/b/").requests, 2);
        assert_eq!(tally.of("", "/b/").requests, 3);
        assert_eq!(tally.of("GET", "/x"), Count::default());
        assert_eq!(tally.total(), Count { requests: 4, sent_bytes: 7, received_bytes: 10, faults: 0 });
        assert_eq!(tally.iter().count(), 3);
    }
}
