//! How much a lane may have out, and when. Pure: the clock is handed in.
//!
//! * **Opening**: at most three requests are out until one has succeeded, so a wrong key costs three.
//! * **Concurrency**, fixed or found: doubling a round trip at first; at a push-back (429, 503,
//!   timeout) once x0.8; then slow probing upwards that remembers which level failed and waits
//!   twice as long before it tries that again.
//! * **Rates**: requests and tokens a minute, and the pauses that a server asks for, are held together
//!   with all who reach the same model with the same key (`share`).
//! * **Breaker**: ten failures of the server in a row open it; one request at a time then asks
//!   whether the server is back. (A server that never answered yet has its first three requests
//!   tried to their end instead, so that a wrong address is said soon.)

use crate::auto::Auto;
use crate::config::LaneConfig;
use crate::record::Kind;
use crate::share::Seat;
use std::time::{Duration, Instant};

/// Requests out before the first success.
pub const OPENING: usize = 3;
/// Fatal answers in a row that stop a lane.
const FATAL: u32 = 3;
const BREAKS: u32 = 10;
const COOL_FIRST: Duration = Duration::from_secs(1);
const COOL_LONGEST: Duration = Duration::from_secs(30);

/// May one more request go out?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Now,
    /// Not before then.
    At(Instant),
    /// When one that is out has ended.
    AtEnd,
    Stopped,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub started: Instant,
    pub failure: Option<Kind>,
    /// Tokens that were counted when it was sent, and those it took.
    pub estimated: u64,
    pub tokens: u64,
    pub output_tokens: u64,
}

#[derive(Debug)]
pub struct Governor {
    fixed: Option<usize>,
    auto: Auto,
    in_flight: usize,
    opened: bool,
    fatal: u32,
    stopped: Option<String>,
    seat: Seat,
    /// Moving average of the answers' tokens, for the estimate.
    answer: f64,
    streak: u32,
    open_until: Option<Instant>,
    /// When the breaker opened: what was sent before says nothing about the server now.
    opened_at: Instant,
    /// Requests out that were sent since then.
    probes: usize,
    cool: Duration,
    never_connected: u32,
    has_fallback: bool,
    pub backed_off: u64,
}

impl Governor {
    pub fn new(lane: &LaneConfig, seat: Seat, now: Instant) -> Self {
        Governor {
            fixed: lane.concurrency,
            auto: Auto::new(lane.max_concurrency as f64, now),
            in_flight: 0,
            opened: false,
            fatal: 0,
            stopped: None,
            seat,
            answer: 0.0,
            streak: 0,
            open_until: None,
            opened_at: now,
            probes: 0,
            cool: COOL_FIRST,
            never_connected: 0,
            has_fallback: lane.fallback.is_some(),
            backed_off: 0,
        }
    }

    /// Requests that may be out at once now.
    pub fn limit(&self) -> usize {
        let limit = self.fixed.unwrap_or(self.auto.limit as usize).max(1);
        if self.opened {
            limit
        } else {
            limit.min(OPENING.saturating_sub(self.fatal as usize).max(1))
        }
    }

    /// A request has succeeded: more than the first few may be under way.
    pub fn opened(&self) -> bool {
        self.opened
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    pub fn stop(&mut self, words: String) {
        self.stopped.get_or_insert(words);
    }

    /// The server does not answer at present, or never will: a fallback should take over.
    pub fn broken(&self) -> bool {
        self.stopped.is_some() || self.open_until.is_some()
    }

    /// What a request of this many bytes probably takes.
    pub fn estimate(&self, bytes: usize, bound: u64) -> u64 {
        let answer = if self.answer > 0.0 { self.answer as u64 } else { bound / 4 };
        crate::reply::estimate(bytes) + answer.min(bound)
    }

    pub fn admit(&mut self, now: Instant, estimated: u64) -> Admission {
        if self.stopped.is_some() {
            return Admission::Stopped;
        }
        if let Some(until) = self.open_until {
            if now < until {
                return Admission::At(until);
            }
            if self.probes > 0 {
                return Admission::AtEnd;
            }
        } else if self.in_flight >= self.limit() {
            return Admission::AtEnd;
        }
        self.seat.admit(now, estimated).map_or(Admission::Now, Admission::At)
    }

    /// A request that was admitted goes out.
    pub fn sent(&mut self, now: Instant, estimated: u64) {
        self.in_flight += 1;
        self.probes += usize::from(self.open_until.is_some());
        self.seat.sent(estimated, now);
    }

    /// It ended without having been answered or having failed: a cancel.
    pub fn withdrawn(&mut self, started: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if started >= self.opened_at {
            self.probes = self.probes.saturating_sub(1);
        }
    }

    pub fn ended(&mut self, now: Instant, ended: &Ended, detail: &str) {
        self.withdrawn(ended.started);
        self.seat.ended(ended.estimated, ended.tokens);
        match ended.failure {
            None => self.succeeded(now, ended),
            Some(kind) => self.failed(now, ended, kind, detail),
        }
    }

    /// A streamed answer has begun to come, so the server answers: others need not wait for its end.
    pub fn begun(&mut self) {
        self.opened = true;
        self.fatal = 0;
    }

    fn succeeded(&mut self, now: Instant, ended: &Ended) {
        self.opened = true;
        self.fatal = 0;
        self.streak = 0;
        self.open_until = None;
        self.cool = COOL_FIRST;
        let out = ended.output_tokens as f64;
        self.answer = if self.answer == 0.0 { out } else { self.answer * 0.95 + out * 0.05 };
        let used = self.in_flight + 1 >= self.auto.limit as usize;
        self.auto.success(now, now.saturating_duration_since(ended.started), used);
    }

    fn failed(&mut self, now: Instant, ended: &Ended, kind: Kind, detail: &str) {
        if kind.fatal() {
            self.fatal += 1;
            if self.fatal >= FATAL {
                self.stop(detail.to_string());
            }
        } else if !matches!(kind, Kind::Throttled) {
            self.fatal = 0;
        }
        if kind.pushes_back() {
            self.backed_off += 1;
            self.auto.push_back(now, ended.started);
        }
        if matches!(kind, Kind::ServerError | Kind::Overloaded | Kind::Timeout | Kind::Connect | Kind::Dropped) {
            self.streak += 1;
            if self.open_until.is_some() {
                if ended.started >= self.opened_at {
                    self.cool = (self.cool * 2).min(COOL_LONGEST);
                    self.open_until = Some(now + self.cool);
                }
            } else if self.streak >= BREAKS && (self.opened || self.has_fallback) {
                self.open_until = Some(now + self.cool);
                self.opened_at = now;
                self.probes = 0;
            }
        } else if !kind.fatal() {
            // An answer, though not the wished one: the server is there.
            self.streak = 0;
            self.open_until = None;
        }
    }

    /// A request gave up for good. A server that nobody ever reached is not waited for a million times.
    pub fn gave_up(&mut self, kind: Kind, detail: &str) {
        if self.opened || kind != Kind::Connect {
            return;
        }
        self.never_connected += 1;
        if self.never_connected >= OPENING as u32 {
            self.stop(detail.to_string());
        }
    }

    /// Nothing goes out before this moment, whatever else holds it back.
    pub fn not_before(&self) -> Option<Instant> {
        self.seat.not_before()
    }

    /// The server asked for a pause.
    pub fn pause(&mut self, now: Instant, wait: Duration) {
        self.seat.pause(now, wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::Limit;
    use std::collections::BinaryHeap;
    use std::sync::Arc;

    fn lane(extra: &str) -> LaneConfig {
        serde_json::from_str(&format!(r#"{{"name":"m","base_url":"http://h/v1","model":"m"{extra}}}"#)).unwrap()
    }

    fn governor(extra: &str, now: Instant) -> Governor {
        let lane = lane(extra);
        let seat = Arc::new(Limit::new([0; 16], None, now)).join(&lane, Arc::default(), now);
        Governor::new(&lane, seat, now)
    }

    fn ended(started: Instant, failure: Option<Kind>) -> Ended {
        Ended { started, failure, estimated: 10, tokens: 10, output_tokens: 5 }
    }

    #[test]
    fn three_requests_are_out_until_one_has_succeeded() {
        let now = Instant::now();
        let mut governor = governor(r#","concurrency":100"#, now);
        for _ in 0..3 {
            assert_eq!(governor.admit(now, 10), Admission::Now);
            governor.sent(now, 10);
        }
        assert_eq!(governor.admit(now, 10), Admission::AtEnd);
        governor.ended(now, &ended(now, None), "");
        assert_eq!((governor.limit(), governor.admit(now, 10)), (100, Admission::Now));
    }

    #[test]
    fn three_wrong_keys_in_a_row_stop_the_lane_with_the_providers_words() {
        let now = Instant::now();
        let mut governor = governor("", now);
        for _ in 0..3 {
            governor.sent(now, 1);
            governor.ended(now, &ended(now, Some(Kind::Unauthorized)), "HTTP 401: wrong key");
        }
        assert_eq!((governor.admit(now, 1), governor.stopped()), (Admission::Stopped, Some("HTTP 401: wrong key")));
    }

    #[test]
    fn a_rate_is_kept_and_a_pause_holds_the_whole_lane() {
        let now = Instant::now();
        let mut governor = governor(r#","concurrency":50,"requests_per_minute":120"#, now);
        governor.opened = true;
        assert_eq!(governor.admit(now, 1), Admission::Now);
        governor.sent(now, 1);
        let Admission::At(next) = governor.admit(now, 1) else { panic!("at once") };
        assert_eq!((next - now).as_millis(), 408); // 1.96 a second; a fifth of a request was left.
        governor.pause(now, Duration::from_secs(2));
        assert_eq!(governor.admit(now + Duration::from_secs(1), 1), Admission::At(now + Duration::from_secs(2)));
        assert_eq!(governor.admit(now + Duration::from_secs(2), 1), Admission::Now);
    }

    #[test]
    fn ten_failures_in_a_row_open_the_breaker_and_one_success_closes_it() {
        let now = Instant::now();
        let mut governor = governor(r#","concurrency":50"#, now);
        governor.opened = true;
        for _ in 0..10 {
            governor.sent(now, 1);
            governor.ended(now, &ended(now, Some(Kind::Dropped)), "");
        }
        assert!(governor.broken());
        assert_eq!(governor.admit(now, 1), Admission::At(now + COOL_FIRST));
        let later = now + COOL_FIRST;
        assert_eq!(governor.admit(later, 1), Admission::Now);
        governor.sent(later, 1);
        assert_eq!(governor.admit(later, 1), Admission::AtEnd);
        governor.ended(later, &ended(later, None), "");
        assert!(!governor.broken());
    }

    #[test]
    fn what_was_sent_before_the_breaker_opened_keeps_it_open_no_longer() {
        let now = Instant::now();
        let mut governor = governor(r#","concurrency":128"#, now);
        governor.opened = true;
        for _ in 0..128 {
            governor.sent(now, 1);
        }
        let later = now + Duration::from_millis(1);
        for _ in 0..128 {
            governor.ended(later, &ended(now, Some(Kind::Dropped)), "");
        }
        assert_eq!(governor.admit(later, 1), Admission::At(later + COOL_FIRST));
        let probe = later + COOL_FIRST;
        governor.sent(probe, 1);
        governor.ended(probe, &ended(probe, Some(Kind::Dropped)), "");
        assert_eq!(governor.admit(probe, 1), Admission::At(probe + COOL_FIRST * 2));
    }

    #[test]
    fn what_hangs_since_before_the_breaker_opened_keeps_nobody_from_asking() {
        let now = Instant::now();
        let mut governor = governor("", now);
        governor.opened = true;
        for _ in 0..100 {
            governor.sent(now, 1);
        }
        let later = now + Duration::from_millis(1);
        for _ in 0..10 {
            governor.ended(later, &ended(now, Some(Kind::Timeout)), "");
        }
        let probe = later + COOL_FIRST;
        assert_eq!((governor.in_flight(), governor.admit(probe, 1)), (90, Admission::Now));
        governor.sent(probe, 1);
        assert_eq!(governor.admit(probe, 1), Admission::AtEnd);
        governor.withdrawn(now);
        assert_eq!(governor.admit(probe, 1), Admission::AtEnd);
        governor.withdrawn(probe);
        assert_eq!(governor.admit(probe, 1), Admission::Now);
    }

    /// A server with `allowed` places and a fixed latency that answers 429 at once when full, and a lane
    /// that sends whatever it may: returns (answered, refused) between `from` and `to` seconds.
    fn simulate(allowed: usize, latency_ms: u64, from: f64, to: f64, pause_ms: Option<u64>) -> (u64, u64) {
        let start = Instant::now();
        let mut governor = governor("", start);
        let (mut clock, mut busy, mut counts) = (Duration::ZERO, 0usize, (0, 0));
        // (end, sent, refused), soonest first.
        let mut events: BinaryHeap<std::cmp::Reverse<(Duration, Duration, bool)>> = BinaryHeap::new();
        while clock.as_secs_f64() < to {
            let now = start + clock;
            let mut wake = None;
            loop {
                match governor.admit(now, 1) {
                    Admission::Now => {
                        governor.sent(now, 1);
                        let refused = busy >= allowed;
                        busy += usize::from(!refused);
                        let took = Duration::from_millis(if refused { 2 } else { latency_ms });
                        events.push(std::cmp::Reverse((clock + took, clock, refused)));
                    }
                    Admission::At(at) => {
                        wake = Some(at - start);
                        break;
                    }
                    _ => break,
                }
            }
            let next = events.peek().map(|event| event.0 .0);
            if wake.is_some_and(|wake| next.is_none_or(|next| wake < next)) {
                clock = wake.unwrap();
                continue;
            }
            let std::cmp::Reverse((end, sent, refused)) = events.pop().unwrap();
            clock = end;
            busy -= usize::from(!refused);
            if clock.as_secs_f64() >= from {
                counts = (counts.0 + u64::from(!refused), counts.1 + u64::from(refused));
            }
            if refused {
                if let Some(ms) = pause_ms {
                    governor.pause(start + clock, Duration::from_millis(ms));
                }
            }
            governor.ended(start + clock, &ended(start + sent, refused.then_some(Kind::Throttled)), "");
        }
        counts
    }

    #[test]
    fn a_server_that_allows_eight_is_used_well_and_seldom_refuses() {
        for (allowed, latency, pause) in [(8, 50, None), (8, 200, Some(100)), (8, 50, Some(1000)), (100, 100, None), (1, 100, None)] {
            let (answered, refused) = simulate(allowed, latency, 10.0, 60.0, pause);
            let possible = allowed as f64 * 50.0 * 1000.0 / latency as f64;
            let share = answered as f64 / possible;
            let refusals = refused as f64 / (answered + refused) as f64;
            assert!(share > 0.85 && refusals < 0.05, "{allowed} at {latency} ms: {share:.3} of the possible, {refusals:.3} refused");
        }
    }

    #[test]
    fn a_lane_opens_within_seconds() {
        let (answered, refused) = simulate(1000, 200, 0.0, 3.0, None);
        assert!(answered > 4000, "{answered} answered, {refused} refused");
    }
}
