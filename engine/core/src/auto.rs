//! Finds how many requests at once a server takes. Pure: the clock is handed in.

use std::time::{Duration, Instant};

const HOLD_FIRST: Duration = Duration::from_secs(1);
const HOLD_SHORTEST: Duration = Duration::from_millis(500);
const HOLD_LONGEST: Duration = Duration::from_secs(30);
const CUT: f64 = 0.8;

/// Finds the concurrency that a server allows.
#[derive(Debug)]
pub struct Auto {
    pub limit: f64,
    max: f64,
    /// The last level that held.
    steady: f64,
    step: f64,
    doubling: bool,
    last_cut: Instant,
    probe_at: Instant,
    hold: Duration,
    latency: LatencyWatch,
}

impl Auto {
    pub fn new(max: f64, now: Instant) -> Self {
        Auto {
            limit: max.min(4.0),
            max,
            steady: 1.0,
            step: 1.0,
            doubling: true,
            last_cut: now,
            probe_at: now,
            hold: HOLD_FIRST,
            latency: LatencyWatch::new(now),
        }
    }

    /// `used`: the limit was what held us back.
    pub fn success(&mut self, now: Instant, latency: Duration, used: bool) {
        let slow = self.latency.grew(now, latency, self.limit);
        if slow && self.doubling {
            self.doubling = false;
            self.steady = self.limit;
            self.probe_at = now + self.hold;
        } else if slow {
            self.cut(now, 0.9);
        } else if self.doubling && used {
            self.limit = (self.limit + 1.0).min(self.max);
        } else if used && now >= self.probe_at {
            if self.limit > self.steady {
                self.steady = self.limit;
                self.hold = (self.hold / 2).max(HOLD_SHORTEST);
                self.step = (self.step * 2.0).min((self.limit / 4.0).max(1.0));
            }
            self.limit = (self.limit + self.step).min(self.max);
            self.probe_at = now + self.hold;
        }
    }

    pub fn push_back(&mut self, now: Instant, started: Instant) {
        // What was sent before the last cut says nothing about the level after it.
        if started < self.last_cut {
            return;
        }
        if !self.doubling && self.limit > self.steady {
            self.limit = self.steady;
            self.hold = (self.hold * 2).min(HOLD_LONGEST);
            self.step = 1.0;
            self.last_cut = now;
            self.probe_at = now + self.hold;
        } else {
            self.doubling = false;
            self.hold = HOLD_FIRST;
            self.cut(now, CUT);
        }
    }

    fn cut(&mut self, now: Instant, by: f64) {
        self.limit = (self.limit * by).max(1.0);
        self.steady = self.limit;
        self.step = 1.0;
        self.last_cut = now;
        self.probe_at = now + self.hold;
    }
}

/// Sees when answers take much longer than they once did, in windows of a round of requests.
#[derive(Debug)]
struct LatencyWatch {
    base: Option<f64>,
    sum: f64,
    count: u32,
    since: Instant,
}

const WINDOW: Duration = Duration::from_secs(1);
/// Grown: so many times the best window, and at least so much more.
const GROWN_TIMES: f64 = 3.0;
const GROWN_SECONDS: f64 = 0.2;

impl LatencyWatch {
    fn new(now: Instant) -> Self {
        LatencyWatch { base: None, sum: 0.0, count: 0, since: now }
    }

    fn grew(&mut self, now: Instant, latency: Duration, limit: f64) -> bool {
        self.sum += latency.as_secs_f64();
        self.count += 1;
        if f64::from(self.count) < limit.max(8.0) || now.saturating_duration_since(self.since) < WINDOW {
            return false;
        }
        let mean = self.sum / f64::from(self.count);
        (self.sum, self.count, self.since) = (0.0, 0, now);
        // The best window is forgotten slowly, so that longer prompts do not look like overload for ever.
        let base = self.base.map_or(mean, |base| (base * 1.02).min(mean));
        self.base = Some(base);
        mean > base * GROWN_TIMES && mean > base + GROWN_SECONDS
    }
}
