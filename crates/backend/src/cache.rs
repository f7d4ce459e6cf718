//! The bounded cache of all roles: a limit, by number of entries or by weight, an optional age, and the least recently
//! used entry makes room.

use lru::LruCache;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values by key; shared by reference between threads. Times are milliseconds since the epoch, by the caller's clock.
pub struct Cache<K, V> {
    limit: usize,
    weigh: fn(&V) -> usize,
    max_age_ms: Option<i64>,
    max_idle_ms: Option<i64>,
    entries: Mutex<Entries<K, V>>,
}

struct Entries<K, V> {
    values: LruCache<K, Entry<V>>,
    weight: usize,
}

struct Entry<V> {
    value: V,
    stored_ms: i64,
    used_ms: i64,
}

impl<K, V> std::fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.debug_struct("Cache").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// A cache of at most `limit` entries, without a limit of age.
    pub fn new(limit: usize) -> Self {
        let entries = Mutex::new(Entries { values: LruCache::unbounded(), weight: 0 });
        Cache { limit, weigh: |_| 1, max_age_ms: None, max_idle_ms: None, entries }
    }

    /// Counts the limit in the given weight instead of entries. A value heavier than the limit is held, alone.
    #[must_use]
    pub fn weighed(mut self, weigh: fn(&V) -> usize) -> Self {
        self.weigh = weigh;
        self
    }

    /// Drops a value this long after it was stored.
    #[must_use]
    pub fn max_age_ms(mut self, ms: i64) -> Self {
        self.max_age_ms = Some(ms);
        self
    }

    /// Lets [`Cache::evict_idle`] drop values that were not used for this long.
    #[must_use]
    pub fn max_idle_ms(mut self, ms: i64) -> Self {
        self.max_idle_ms = Some(ms);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key, which becomes the most recently used.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q, now_ms: i64) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.look(&mut self.lock(), key, now_ms)
    }

    fn look<Q: Hash + Eq + ?Sized>(&self, entries: &mut Entries<K, V>, key: &Q, now_ms: i64) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entry = entries.values.get_mut(key)?;
        if self.max_age_ms.is_some_and(|max| now_ms.saturating_sub(entry.stored_ms) >= max) {
            self.take(entries, key);
            return None;
        }
        entry.used_ms = now_ms;
        Some(entry.value.clone())
    }

    /// The value of a key, made and stored if there is none: callers at the same time get the same value.
    pub fn get_or_put(&self, key: K, now_ms: i64, make: impl FnOnce() -> V) -> V {
        let mut entries = self.lock();
        if let Some(value) = self.look(&mut entries, &key, now_ms) {
            return value;
        }
        let value = make();
        self.store(&mut entries, key, value.clone(), now_ms);
        value
    }

    /// Stores a value in place of an earlier one of the key; the least recently used values make room.
    pub fn put(&self, key: K, value: V, now_ms: i64) {
        self.store(&mut self.lock(), key, value, now_ms);
    }

    fn store(&self, entries: &mut Entries<K, V>, key: K, value: V, now_ms: i64) {
        entries.weight += (self.weigh)(&value);
        let entry = Entry { value, stored_ms: now_ms, used_ms: now_ms };
        if let Some(before) = entries.values.put(key, entry) {
            entries.weight -= (self.weigh)(&before.value);
        }
        while entries.weight > self.limit && entries.values.len() > 1 {
            self.pop_oldest(entries);
        }
    }

    /// Drops the value of a key.
    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let mut entries = self.lock();
        self.take(&mut entries, key);
    }

    /// Drops the values that were not used for the idle time.
    pub fn evict_idle(&self, now_ms: i64) {
        let Some(max) = self.max_idle_ms else { return };
        let mut entries = self.lock();
        while entries.values.peek_lru().is_some_and(|(_, e)| now_ms.saturating_sub(e.used_ms) > max) {
            self.pop_oldest(&mut entries);
        }
    }

    fn take<Q: Hash + Eq + ?Sized>(&self, entries: &mut Entries<K, V>, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(entry) = entries.values.pop(key) {
            entries.weight -= (self.weigh)(&entry.value);
        }
    }

    fn pop_oldest(&self, entries: &mut Entries<K, V>) {
        if let Some((_, entry)) = entries.values.pop_lru() {
            entries.weight -= (self.weigh)(&entry.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys held of the first nine; each look makes them the most recently used, in order.
    fn held(cache: &Cache<u32, usize>) -> Vec<u32> {
        (1..=9).filter(|n| cache.get(n, 0).is_some()).collect()
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let cache = Cache::new(3);
        for n in 1..=3 {
            cache.put(n, 0, 0);
        }
        cache.get(&1, 0);
        cache.put(4, 0, 0);
        assert_eq!(held(&cache), [1, 3, 4]);
        cache.remove(&3);
        assert_eq!(held(&cache), [1, 4]);
        cache.put(5, 0, 0);
        assert_eq!(held(&cache), [1, 4, 5], "a removed entry leaves room");
    }

    #[test]
    fn more_keys_in_turn_than_the_limit_evict_each_other_but_the_used_one_stays() {
        let cache = Cache::new(2);
        cache.put(1, 0, 0);
        for n in 2..=9 {
            cache.put(n, 0, 0);
            assert!(cache.get(&1, 0).is_some(), "{n}");
        }
    }

    #[test]
    fn a_missing_value_is_made_once_and_an_aged_one_anew() {
        let cache = Cache::new(2).max_age_ms(100);
        assert_eq!(cache.get_or_put(1, 0, || 7), 7);
        assert_eq!(cache.get_or_put(1, 99, || unreachable!("it is held")), 7);
        assert_eq!(cache.get_or_put(1, 100, || 8), 8);
        cache.get_or_put(2, 100, || 0);
        cache.get_or_put(1, 100, || 0);
        cache.get_or_put(3, 100, || 0);
        assert_eq!((cache.get(&1, 100), cache.get(&2, 100)), (Some(8), None), "use counts");
    }

    #[test]
    fn the_limit_may_be_a_weight() {
        let cache = Cache::new(10).weighed(|weight: &usize| *weight);
        for (n, weight) in [(1, 4), (2, 3), (3, 3)] {
            cache.put(n, weight, 0);
        }
        cache.get(&1, 0);
        cache.put(4, 3, 0);
        assert_eq!(held(&cache), [1, 3, 4], "two was the least recently used");
        cache.put(3, 1, 0);
        cache.put(5, 2, 0);
        assert_eq!(held(&cache), [1, 3, 4, 5], "a new value of a key replaces the weight of the old one");
        cache.put(6, 99, 0);
        assert_eq!(held(&cache), [6], "heavier than the limit, and held alone");
        cache.put(7, 1, 0);
        assert_eq!(held(&cache), [7]);
    }

    #[test]
    fn values_end_by_age_and_by_idle_time() {
        let aged = Cache::new(9).max_age_ms(100);
        aged.put(1, 0, 0);
        assert!(aged.get(&1, 99).is_some());
        assert!(aged.get(&1, 100).is_none(), "use does not prolong an age");
        let idle = Cache::new(9).max_idle_ms(100);
        idle.put(1, 0, 0);
        idle.put(2, 0, 0);
        assert!(idle.get(&2, 80).is_some());
        idle.evict_idle(150);
        assert_eq!((idle.get(&1, 150), idle.get(&2, 150)), (None, Some(0)));
    }
}
