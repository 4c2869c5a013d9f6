//! What the process counts, and what stands in its way just now.

use crate::log;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Trouble that lasts is told again this often.
const AGAIN: Duration = Duration::from_secs(30);

/// A number that only grows, or one that is set.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module. Safe from any thread.
#[derive(Debug, Default)]
pub struct State {
    pub blocks_taken: Count,
    pub blocks_done: Count,
    pub blocks_given_up: Count,
    pub blocks_lost: Count,
    pub blocks_failed: Count,
    pub blocks_open: Count,
    pub requests: Count,
    pub found: Count,
    pub failed: Count,
    pub input_tokens: Count,
    pub output_tokens: Count,
    pub documents: Count,
    pub documents_again: Count,
    pub documents_conflicted: Count,
    pub documents_bare: Count,
    pub documents_refused: Count,
    pub bulks: Count,
    pub bulk_bytes: Count,
    /// Requests a second, in thousandths, over the last seconds.
    pub rate: Count,
    troubles: Mutex<BTreeMap<&'static str, Trouble>>,
    lanes: Mutex<BTreeMap<String, Value>>,
}

#[derive(Debug)]
struct Trouble {
    words: String,
    since: Instant,
    told: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl State {
    /// Something does not go as it should: told once, and again while it lasts.
    pub fn trouble(&self, what: &'static str, words: &str) {
        let now = Instant::now();
        let mut troubles = lock(&self.troubles);
        let known = troubles.get(what);
        let silent = known.is_some_and(|known| known.words == words && known.told.elapsed() < AGAIN);
        let since = known.map_or(now, |known| known.since);
        if !silent {
            log::warning(words, json!({"part": what, "seconds": since.elapsed().as_secs()}));
            troubles.insert(what, Trouble { words: words.into(), since, told: now });
        }
    }

    /// It goes well.
    pub fn well(&self, what: &'static str) {
        if let Some(trouble) = lock(&self.troubles).remove(what) {
            log::info("It goes on.", json!({"part": what, "seconds": trouble.since.elapsed().as_secs()}));
        }
    }

    /// What stands in the way, by part, in words.
    pub fn troubles(&self) -> BTreeMap<&'static str, String> {
        lock(&self.troubles).iter().map(|(what, trouble)| (*what, log::scrub(&trouble.words))).collect()
    }

    /// What a batch's engine says of its lanes; None: it is closed.
    pub fn lanes(&self, batch: &str, lanes: Option<Value>) {
        let mut all = lock(&self.lanes);
        match lanes {
            Some(lanes) => drop(all.insert(batch.into(), lanes)),
            None => drop(all.remove(batch)),
        }
    }

    /// As it stands in the table of workers.
    pub fn detail(&self) -> Value {
        let lanes: BTreeMap<String, Value> =
            lock(&self.lanes).values().filter_map(Value::as_object).flatten().map(|(name, lane)| (name.clone(), lane.clone())).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "blocks_open": self.blocks_open.get(), "blocks_done": self.blocks_done.get(),
            "blocks_given_up": self.blocks_given_up.get(), "blocks_failed": self.blocks_failed.get(),
            "requests": self.requests.get(), "failed": self.failed.get(), "found": self.found.get(),
            "requests_per_second": self.rate.get() as f64 / 1000.0,
            "documents": self.documents.get(), "documents_refused": self.documents_refused.get(),
            "lanes": lanes, "troubles": self.troubles(),
        })
    }

    /// In the text form of Prometheus.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let mut one = |name: &str, kind: &str, help: &str, value: f64| {
            text.push_str(&format!("# HELP wordmill_consumer_{name} {help}\n# TYPE wordmill_consumer_{name} {kind}\n"));
            text.push_str(&format!("wordmill_consumer_{name} {value}\n"));
        };
        for (name, help, count) in [
            ("blocks_taken_total", "Blocks taken.", &self.blocks_taken),
            ("blocks_done_total", "Blocks ended.", &self.blocks_done),
            ("blocks_given_up_total", "Blocks that went back to their queue.", &self.blocks_given_up),
            ("blocks_lost_total", "Blocks that another consumer took over.", &self.blocks_lost),
            ("blocks_failed_total", "Blocks that could not be worked on.", &self.blocks_failed),
            ("requests_total", "Requests that were answered or failed.", &self.requests),
            ("requests_found_total", "Requests whose result was there already.", &self.found),
            ("requests_failed_total", "Requests that failed.", &self.failed),
            ("input_tokens_total", "Tokens of prompts.", &self.input_tokens),
            ("output_tokens_total", "Tokens of answers.", &self.output_tokens),
            ("documents_total", "Documents that Elasticsearch confirmed.", &self.documents),
            ("documents_again_total", "Documents that were sent once more.", &self.documents_again),
            ("documents_conflicted_total", "Documents that a later holder had written.", &self.documents_conflicted),
            ("documents_bare_total", "Documents that were written without their text.", &self.documents_bare),
            ("documents_refused_total", "Documents that Elasticsearch does not take.", &self.documents_refused),
            ("bulks_total", "Calls of _bulk.", &self.bulks),
            ("bulk_bytes_total", "Bytes of their bodies.", &self.bulk_bytes),
        ] {
            one(name, "counter", help, count.get() as f64);
        }
        one("blocks_open", "gauge", "Blocks under way.", self.blocks_open.get() as f64);
        one("requests_per_second", "gauge", "Over the last seconds.", self.rate.get() as f64 / 1000.0);
        one("troubles", "gauge", "Parts that do not go as they should.", lock(&self.troubles).len() as f64);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_stands_until_it_goes_well() {
        let state = State::default();
        state.trouble("elasticsearch", "it is away");
        state.trouble("elasticsearch", "it is read-only");
        assert_eq!(state.troubles(), [("elasticsearch", "it is read-only".to_string())].into());
        assert!(state.prometheus().contains("wordmill_consumer_troubles 1\n"));
        state.well("elasticsearch");
        assert!(state.troubles().is_empty());
    }
}
