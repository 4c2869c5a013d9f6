//! What the engine counts, and how it is shown.

use crate::record::{Kind, Spent};
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies in buckets that are about 9 % wide, from 0.1 ms to an hour.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u32; BUCKETS]>,
    count: u64,
}

const BUCKETS: usize = 208;
const PER_DOUBLING: f64 = 8.0;
const SMALLEST: f64 = 1e-4;

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: Box::new([0; BUCKETS]), count: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, latency: Duration) {
        let seconds = latency.as_secs_f64().max(SMALLEST);
        let bucket = ((seconds / SMALLEST).log2() * PER_DOUBLING) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
    }

    /// Seconds within which a fraction `q` of the requests ended, to the upper edge of a bucket; 0 for none.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += u64::from(*bucket);
            if seen >= rank {
                return SMALLEST * ((index + 1) as f64 / PER_DOUBLING).exp2();
            }
        }
        0.0
    }
}

#[derive(Clone, Debug, Default)]
pub struct LaneMetrics {
    pub sent: u64,
    pub done: u64,
    pub in_flight: usize,
    pub queued: usize,
    pub limit: usize,
    pub backed_off: u64,
    /// Seconds in which requests waited for a limit that a server or the catalog set.
    pub waited: f64,
    pub stopped: Option<String>,
    pub fallback_used: u64,
    pub latency: Histogram,
    /// The last fault that made a request wait, in words.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub sent: u64,
    pub done: u64,
    pub failed: BTreeMap<Kind, u64>,
    pub retried: BTreeMap<Kind, u64>,
    pub cached: u64,
    pub joined: u64,
    pub resumed: u64,
    pub spent: Spent,
    /// All runs of these records together.
    pub spent_ever: Spent,
    pub budget_reached: Option<String>,
    pub lanes: Vec<(String, LaneMetrics)>,
}

impl Metrics {
    pub fn to_json(&self) -> Value {
        let by_kind =
            |counts: &BTreeMap<Kind, u64>| Value::Object(counts.iter().map(|(kind, n)| (kind.word().to_string(), json!(n))).collect());
        let mut lanes = Map::new();
        for (name, lane) in &self.lanes {
            lanes.insert(
                name.clone(),
                json!({
                    "sent": lane.sent, "done": lane.done, "in_flight": lane.in_flight, "queued": lane.queued,
                    "limit": lane.limit, "backed_off": lane.backed_off, "waited_seconds": lane.waited,
                    "stopped": lane.stopped, "fallback_used": lane.fallback_used, "trouble": lane.trouble,
                    "p50": lane.latency.quantile(0.5), "p95": lane.latency.quantile(0.95), "p99": lane.latency.quantile(0.99),
                }),
            );
        }
        json!({
            "sent": self.sent, "done": self.done, "failed": by_kind(&self.failed), "retried": by_kind(&self.retried),
            "cached": self.cached, "joined": self.joined, "resumed": self.resumed,
            "tokens_in": self.spent.input_tokens, "tokens_out": self.spent.output_tokens, "money": self.spent.money,
            "in_flight": self.lanes.iter().map(|(_, lane)| lane.in_flight).sum::<usize>(),
            "queued": self.lanes.iter().map(|(_, lane)| lane.queued).sum::<usize>(),
            "spent": {"requests": self.spent_ever.requests, "tokens": self.spent_ever.tokens(), "money": self.spent_ever.money},
            "budget_reached": self.budget_reached,
            "lanes": lanes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0.0);
        for ms in 1..=1000 {
            histogram.add(Duration::from_millis(ms));
        }
        for q in [0.5, 0.95, 0.99] {
            let found = histogram.quantile(q);
            assert!((q..=q * 1.1).contains(&found), "{q}: {found}");
        }
    }
}
