//! How fast a limit fills. Pure: the clock is handed in.

use std::time::{Duration, Instant};

/// What is used of a limit in the long run.
const USED: f64 = 0.98;
/// What of a minute's limit may go out at once.
const AT_ONCE: f64 = 0.01;

/// A limit a minute as a bucket: what grows, and what it holds.
///
/// No 60 seconds take more than the limit, by the server's count as well: what a full bucket holds and
/// what grows in 60 seconds is 99 % of it, and the rest is for requests that travel at different speeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    pub most: f64,
}

impl Rate {
    pub fn per_minute(limit: f64) -> Self {
        Rate { per_second: (limit * USED / 60.0).max(1e-6), most: (limit * AT_ONCE).max(1.0) }
    }

    /// One part of it, where each of several takes one.
    pub fn part(self, share: f64) -> Self {
        Rate { per_second: self.per_second * share, most: (self.most * share).max(1.0) }
    }
}

/// May be overdrawn by one request.
#[derive(Debug)]
pub struct Bucket {
    pub level: f64,
    at: Instant,
}

impl Bucket {
    pub fn new(level: f64, now: Instant) -> Self {
        Bucket { level, at: now }
    }

    /// What has grown since the last time.
    pub fn fill(&mut self, rate: Rate, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + seconds * rate.per_second).min(rate.most);
        self.at = now;
    }

    /// What is there may be taken from now on; nothing grew before.
    pub fn begin(&mut self, level: f64, now: Instant) {
        *self = Bucket::new(level, now);
    }

    /// How much must grow before `need` can be taken: nothing, or more than 0.
    pub fn missing(&self, need: f64, most: f64) -> Option<f64> {
        let missing = need.min(most) - self.level;
        (missing > 1e-9).then_some(missing)
    }

    pub fn give_back(&mut self, amount: f64, most: f64) {
        self.level = (self.level + amount).min(most);
    }
}

/// When so much will have grown.
pub fn grown(now: Instant, missing: f64, rate: Rate) -> Instant {
    now + Duration::from_secs_f64((missing / rate.per_second).min(3600.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_takes_more_than_the_limit() {
        for limit in [1.0, 6.0, 60.0, 600.0, 6000.0, 1e6] {
            let rate = Rate::per_minute(limit);
            let start = Instant::now();
            let mut bucket = Bucket::new(rate.most, start);
            let mut sent: Vec<f64> = Vec::new();
            let mut now = start;
            while now < start + Duration::from_secs(150) && sent.len() < 50_000 {
                bucket.fill(rate, now);
                match bucket.missing(1.0, rate.most) {
                    None => {
                        bucket.level -= 1.0;
                        sent.push((now - start).as_secs_f64());
                    }
                    Some(missing) => now = grown(now, missing, rate) + Duration::from_nanos(10),
                }
            }
            let fullest = sent.iter().enumerate().map(|(n, from)| sent[n..].partition_point(|at| *at < from + 60.0)).max().unwrap();
            assert!(fullest as f64 <= limit.min(50_000.0), "{limit}: {fullest}");
        }
    }
}
