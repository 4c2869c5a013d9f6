//! What engines have in common: limits by what they reach, and answers, of this process or of many.

use crate::config::LaneConfig;
use crate::json::{self, Key};
use crate::record::Api;
use crate::share::Limit;
use crate::shared::lock;
use bytes::Bytes;
use serde_json::Value;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

/// Whoever keeps limits for several processes. Its own thread goes through `Commons::limits`, asks and grants.
pub trait Link: Debug + Send + Sync {
    /// A limit wants a slice. Must not wait.
    fn wanted(&self);
    /// For the metrics: whether it works, and what it did.
    fn state(&self) -> Value;
}

/// An answer as several processes remember it: what `reply::read` needs to understand it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub api: Api,
    /// Bytes of its request.
    pub sent: u32,
    /// Bits of `record::flag`.
    pub flags: u32,
    pub attempts: u32,
    pub micros: u64,
    /// As its server sent it.
    pub body: Bytes,
}

/// Answers that several processes remember. They may be forgotten at any time.
pub trait Answers: Debug + Send + Sync {
    /// What is remembered of these requests, in their order. May wait for a moment; what cannot be had is None.
    fn find(&self, keys: &[Key]) -> Vec<Option<Answer>>;
    /// Must not wait.
    fn keep(&self, key: &Key, answer: Answer);
    /// Wait for a moment until what was kept is where others find it.
    fn flush(&self);
}

/// See the module.
#[derive(Debug, Default)]
pub struct Commons {
    limits: Mutex<json::KeyMap<Arc<Limit>>>,
    pub link: Option<Arc<dyn Link>>,
    pub answers: Option<Arc<dyn Answers>>,
}

impl Commons {
    /// Of this process alone.
    ///
    /// A child that was forked has one of its own: who stood in its parent's is not there.
    pub fn process() -> Arc<Self> {
        static PROCESS: RwLock<Option<(u32, Arc<Commons>)>> = RwLock::new(None);
        let own = std::process::id();
        let known = PROCESS.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, commons)) = known.filter(|(process, _)| *process == own) {
            return commons;
        }
        let mut kept = PROCESS.write().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((process, commons)) if *process == own => commons.clone(),
            _ => kept.insert((own, Arc::default())).1.clone(),
        }
    }

    /// Of several processes.
    pub fn linked(link: Arc<dyn Link>, answers: Arc<dyn Answers>) -> Self {
        Commons { limits: Mutex::default(), link: Some(link), answers: Some(answers) }
    }

    /// The limit that holds for everybody who reaches what this lane reaches.
    pub fn limit(&self, lane: &LaneConfig, now: Instant) -> Arc<Limit> {
        let mut limits = lock(&self.limits);
        limits.retain(|_, limit| !limit.forgotten(now));
        match limits.entry(name(lane)) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                let limit = Arc::new(Limit::new(*place.key(), self.link.clone(), now));
                place.insert(limit).clone()
            }
        }
    }

    /// Those that are in use, or were a short while ago.
    pub fn limits(&self, now: Instant) -> Vec<Arc<Limit>> {
        let mut limits = lock(&self.limits);
        limits.retain(|_, limit| !limit.forgotten(now));
        limits.values().cloned().collect()
    }
}

/// A digest of where a lane's requests go and with which key.
fn name(lane: &LaneConfig) -> Key {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let headers = lane.headers.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    for part in [lane.place(), &lane.model, lane.key.as_deref().unwrap_or_default()].into_iter().chain(headers) {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    json::shorten(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(extra: &str) -> LaneConfig {
        serde_json::from_str(&format!(r#"{{"name":"m","base_url":"http://h/v1","model":"m"{extra}}}"#)).unwrap()
    }

    #[test]
    fn a_limit_belongs_to_a_place_a_model_and_a_key() {
        let plain = name(&lane(""));
        assert_eq!(plain, name(&lane(r#","requests_per_minute":5,"price_input":1.0"#)));
        for other in [r#","key":"k""#, r#","identity":"i""#, r#","headers":{"api-key":"k"}"#] {
            assert_ne!(plain, name(&lane(other)), "{other}");
        }
    }
}
