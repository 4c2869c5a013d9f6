//! What an engine is told when it starts. Read from JSON; unknown fields are refused.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// One engine: where it keeps its records, its lanes and its ceilings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The run's SQLite file; none keeps nothing.
    #[serde(default)]
    pub records: Option<String>,
    /// The cache between runs; none switches it off.
    #[serde(default)]
    pub cache: Option<String>,
    /// Whose requests these are; part of every key.
    pub owner: String,
    pub lanes: Vec<LaneConfig>,
    /// Most requests that are sent and not yet durable; 0 lets the engine choose.
    #[serde(default)]
    pub in_doubt: usize,
    #[serde(default)]
    pub budget: Ceilings,
    /// The budget may be raised while the engine runs: until `allow` says otherwise, what does not
    /// fit waits.
    #[serde(default)]
    pub granted: bool,
    /// Hand every reply on as it was sent, also one that is no more than its text.
    #[serde(default)]
    pub whole: bool,
    /// What is shared with other processes; none shares within this one.
    #[serde(default)]
    pub shared: Option<SharedConfig>,
}

/// Where processes share limits and answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedConfig {
    /// `redis://` or `rediss://`, with its password.
    pub redis: String,
    /// Look answers up there, and keep them there.
    #[serde(default)]
    pub answers: bool,
}

/// A model at an endpoint, with its limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneConfig {
    pub name: String,
    pub base_url: String,
    /// Stands for the base URL in keys, where one model answers at changing addresses.
    #[serde(default)]
    pub identity: Option<String>,
    /// The name that the server knows.
    pub model: String,
    #[serde(default)]
    pub key: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Only public addresses are asked, and never through a proxy: a stranger chose this one.
    #[serde(default)]
    pub public: bool,
    /// Hosts that are asked all the same, wherever they lead.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// Fixed concurrency; none adapts it.
    #[serde(default)]
    pub concurrency: Option<usize>,
    #[serde(default = "default_max_concurrency")]
    pub max_concurrency: usize,
    #[serde(default)]
    pub requests_per_minute: Option<f64>,
    #[serde(default)]
    pub tokens_per_minute: Option<f64>,
    /// Money per million tokens.
    #[serde(default)]
    pub price_input: f64,
    #[serde(default)]
    pub price_output: f64,
    /// Tokens that prompt and answer may have together.
    #[serde(default)]
    pub context: Option<u64>,
    #[serde(default)]
    pub fallback: Option<String>,
    /// Send the salt as the parameter `seed`.
    #[serde(default)]
    pub seed: bool,
    #[serde(default = "default_connect")]
    pub connect_seconds: f64,
    #[serde(default = "default_first_byte")]
    pub first_byte_seconds: f64,
    #[serde(default = "default_total")]
    pub total_seconds: f64,
    /// All attempts of a request together.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: f64,
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    #[serde(default = "default_max_reply")]
    pub max_reply_bytes: usize,
}

fn default_max_concurrency() -> usize {
    2048
}
fn default_connect() -> f64 {
    10.0
}
fn default_first_byte() -> f64 {
    120.0
}
fn default_total() -> f64 {
    600.0
}
fn default_deadline() -> f64 {
    1800.0
}
fn default_attempts() -> u32 {
    6
}
fn default_max_reply() -> usize {
    16 << 20
}

impl LaneConfig {
    /// What keys say about where a request goes.
    pub fn place(&self) -> &str {
        self.identity.as_deref().unwrap_or(&self.base_url)
    }
}

/// Seconds as a duration; what is not a sane number becomes a day.
pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::from_secs(86_400)).min(Duration::from_secs(86_400 * 365))
}

/// Ceilings of a run; none is no ceiling.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Ceilings {
    #[serde(default)]
    pub requests: Option<u64>,
    #[serde(default)]
    pub tokens: Option<u64>,
    #[serde(default)]
    pub money: Option<f64>,
}

impl Config {
    /// Parse and check; the error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Config = serde_json::from_str(text).map_err(|e| format!("engine configuration: {e}"))?;
        if config.lanes.is_empty() {
            return Err("engine configuration: there is no lane".into());
        }
        for lane in &config.lanes {
            if lane.concurrency == Some(0) || lane.max_concurrency == 0 {
                return Err(format!("engine configuration: the concurrency of {:?} is 0", lane.name));
            }
            if lane.attempts == 0 {
                return Err(format!("engine configuration: {:?} may attempt nothing", lane.name));
            }
            if let Some(fallback) = &lane.fallback {
                if config.position(fallback).is_none() {
                    return Err(format!("engine configuration: {:?} falls back to {fallback:?}, which is no lane", lane.name));
                }
            }
        }
        for start in &config.lanes {
            let (mut lane, mut steps) = (start, 0);
            while let Some(next) = lane.fallback.as_ref().and_then(|name| config.position(name)) {
                lane = &config.lanes[next];
                steps += 1;
                if steps > config.lanes.len() {
                    return Err(format!("engine configuration: {:?} falls back to itself in the end", start.name));
                }
            }
        }
        Ok(config)
    }

    /// Index of the lane of that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.name == name)
    }
}
