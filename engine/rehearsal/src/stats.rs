//! What the server has counted, for `/stats` and for tests that compare counts.
//!
//! Every request of a model is counted exactly once under `answered`, `rejected`, `over_limit`,
//! `abandoned` or a fault that leaves no answer; a fault that only changes an answer (empty, slow,
//! refuse, schema, as-an-ai) counts under its name and under `answered`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::faults::Fault;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A whole 200.
    Answered,
    /// The server's own 4xx: the request was wrong.
    Rejected,
    /// A fault that leaves no answer; it was counted when it was drawn.
    Faulted,
}

#[derive(Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    answered: AtomicU64,
    rejected: AtomicU64,
    over_limit: AtomicU64,
    abandoned: AtomicU64,
    in_flight: AtomicU64,
    highest: AtomicU64,
    connections: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    seen: Mutex<Seen>,
}

impl Counters {
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// Counts a request in; None if `limit` are at work already.
    pub(crate) fn admit(self: &Arc<Self>, limit: Option<u64>) -> Option<Ticket> {
        self.requests.fetch_add(1, Relaxed);
        let now = self.in_flight.fetch_add(1, Relaxed) + 1;
        if limit.is_some_and(|limit| now > limit) {
            self.in_flight.fetch_sub(1, Relaxed);
            self.over_limit.fetch_add(1, Relaxed);
            return None;
        }
        self.highest.fetch_max(now, Relaxed);
        Some(Ticket { counters: Arc::clone(self), outcome: None })
    }

    /// How often a request of this digest came before.
    pub(crate) fn before(&self, digest: u64) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).before(digest)
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.faults[fault as usize].fetch_add(1, Relaxed);
    }

    /// All of it as JSON.
    pub(crate) fn json(&self) -> String {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let faults: serde_json::Map<_, _> =
            Fault::ALL.iter().map(|&fault| (fault.name().into(), get(&self.faults[fault as usize]).into())).collect();
        let (distinct, repeated) = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.distinct, seen.repeated)
        };
        serde_json::json!({
            "requests": get(&self.requests),
            "answered": get(&self.answered),
            "rejected": get(&self.rejected),
            "over_limit": get(&self.over_limit),
            "abandoned": get(&self.abandoned),
            "in_flight": get(&self.in_flight),
            "highest_concurrency": get(&self.highest),
            "connections": get(&self.connections),
            "distinct": distinct,
            "repeated": repeated,
            "faults": faults,
        })
        .to_string()
    }
}

/// A request at work. Dropped without an outcome, its client went away.
pub(crate) struct Ticket {
    counters: Arc<Counters>,
    outcome: Option<Outcome>,
}

impl Ticket {
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let counters = &self.counters;
        counters.in_flight.fetch_sub(1, Relaxed);
        match self.outcome {
            Some(Outcome::Answered) => &counters.answered,
            Some(Outcome::Rejected) => &counters.rejected,
            Some(Outcome::Faulted) => return,
            None => &counters.abandoned,
        }
        .fetch_add(1, Relaxed);
    }
}

const SHARDS: usize = 64;
const LARGEST_SHARD: usize = 1 << 16;
const COUNT_BITS: u32 = 8;
const MOST: u64 = (1 << COUNT_BITS) - 1;

/// Which digests came before, and how often (up to 255 times).
///
/// A word a digest: its upper 56 bits and the count. Sixty-four open-addressing tables that grow on
/// their own, so no single request waits long. A full one (3.6 million digests in all, 32 MiB)
/// forgets what it held; `distinct` then counts too much.
struct Seen {
    shards: Vec<Shard>,
    distinct: u64,
    repeated: u64,
}

#[derive(Default)]
struct Shard {
    slots: Vec<u64>,
    used: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), distinct: 0, repeated: 0 }
    }
}

impl Seen {
    fn before(&mut self, digest: u64) -> u64 {
        let before = self.shards[digest as usize >> COUNT_BITS & (SHARDS - 1)].before(digest | MOST);
        if before == 0 {
            self.distinct += 1;
        } else {
            self.repeated += 1;
        }
        before
    }
}

impl Shard {
    /// The slot that holds `key` (a digest with all count bits set), or the free one for it.
    fn place(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (key >> 32) as usize & mask;
        while self.slots[at] != 0 && self.slots[at] | MOST != key {
            at = (at + 1) & mask;
        }
        at
    }

    fn before(&mut self, key: u64) -> u64 {
        if self.used * 8 >= self.slots.len() * 7 {
            self.grow();
        }
        let at = self.place(key);
        let before = self.slots[at] & MOST;
        if before == 0 {
            self.slots[at] = key & !MOST | 1;
            self.used += 1;
        } else if before < MOST {
            self.slots[at] += 1;
        }
        before
    }

    fn grow(&mut self) {
        let larger = (self.slots.len() * 2).max(16);
        if larger > LARGEST_SHARD {
            self.slots.fill(0);
            self.used = 0;
            return;
        }
        let old = std::mem::replace(&mut self.slots, vec![0; larger]);
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let at = self.place(slot | MOST);
            self.slots[at] = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    #[test]
    fn digests_are_counted_exactly_while_there_is_room() {
        let mut seen = Seen::default();
        for round in 0..3 {
            for n in 0..200_000 {
                assert_eq!(seen.before(mix(n)), round);
            }
        }
        assert_eq!((seen.distinct, seen.repeated), (200_000, 400_000));
    }

    #[test]
    fn a_count_stops_at_its_top_and_memory_at_its_bound() {
        let mut seen = Seen::default();
        for _ in 0..300 {
            seen.before(9);
        }
        assert_eq!(seen.before(9), MOST);
        for n in 0..5_000_000 {
            seen.before(mix(n));
        }
        assert!(seen.shards.iter().map(|shard| shard.slots.len()).sum::<usize>() <= SHARDS * LARGEST_SHARD);
    }

    #[test]
    fn a_ticket_ends_under_one_name() {
        let counters = Arc::new(Counters::default());
        counters.admit(None).unwrap().end(Outcome::Answered);
        counters.admit(None).unwrap().end(Outcome::Faulted);
        let held = counters.admit(Some(1)).unwrap();
        assert!(counters.admit(Some(1)).is_none());
        drop(held);
        let stats: serde_json::Value = serde_json::from_str(&counters.json()).unwrap();
        for (name, count) in
            [("requests", 4), ("answered", 1), ("over_limit", 1), ("abandoned", 1), ("in_flight", 0), ("highest_concurrency", 1)]
        {
            assert_eq!(stats[name], count, "{name}");
        }
    }
}
