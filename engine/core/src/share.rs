//! A limit that several hold together: the engines of this process that reach the same model with the same key.
//!
//! * **Alone** the limit grows by the clock, and the engines take turns.
//! * **Linked** with other processes it is fed by slices: whoever keeps the limit for all of them (`Link`) is
//!   asked for a tenth of a second's worth at a time, by a thread of its own. A slice that is not used within a
//!   quarter of a second is given back; one whose process died counts as used, and has grown again by then.
//! * **Away** from the others each process takes its share by the clock: of the number that it last saw. One that
//!   never saw any takes a tenth. Back again it keeps to its share until it has seen as many as before.
//!
//! Nothing here waits. The clock is handed in.

use crate::bucket::{grown, Bucket, Rate};
use crate::commons::Link;
use crate::config::LaneConfig;
use crate::json::Key;
use crate::retry::LONGEST_WAIT;
use crate::shared::lock;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Whose turn it is may be so late before it is passed over.
const GRACE: Duration = Duration::from_millis(5);
/// Seconds' worth of a limit that one engine takes before others have their turn.
const TURN: f64 = 0.02;
/// Within this time a slice is used or given back.
pub const LEASE: Duration = Duration::from_millis(250);
/// Seconds' worth of a limit that a slice holds, and that all slices together hold.
const SLICE: f64 = 0.1;
const SLICES: f64 = 0.25;
/// Between two slices.
const PACE: Duration = Duration::from_millis(20);
/// Who holds a limit says so at least this often.
pub const BEAT: Duration = Duration::from_secs(1);
/// Who has not said so for this long is gone.
pub const GONE: Duration = Duration::from_secs(5);
/// Who waits asks again at least this often, while it still wants anything.
const PATIENCE: Duration = Duration::from_secs(3);
/// A limit that nobody holds is remembered for so long.
const MEMORY: Duration = Duration::from_secs(60);
/// After an outage the others are waited for so long.
const SETTLE: Duration = Duration::from_secs(10);
/// The share of a process that has never seen the others.
const UNMET: f64 = 0.1;

/// What is asked for, of one of the two limits; `per_second` 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Want {
    pub per_second: f64,
    pub most: f64,
    /// With less than this nothing can be done.
    pub least: f64,
    pub want: f64,
    /// Taken without having been granted; negative: granted and not taken.
    pub spent: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has had nothing of this limit yet.
    New,
    Known,
    /// It was away: what it took meanwhile is not counted.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ask {
    pub standing: Standing,
    pub requests: Want,
    pub tokens: Want,
    /// A server asked for a pause of all.
    pub pause: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Grant {
    pub requests: f64,
    pub tokens: f64,
    /// Until the least can be had.
    pub wait: Duration,
    /// What is left of a server's pause.
    pub pause: Duration,
    /// Processes that hold this limit.
    pub holders: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Limit {
    name: Key,
    epoch: Instant,
    /// Nanoseconds after `epoch`.
    paused: AtomicU64,
    rated: AtomicBool,
    link: Option<Arc<dyn Link>>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    seats: Vec<Sitter>,
    next_seat: u64,
    requests: Option<Side>,
    tokens: Option<Side>,
    feed: Feed,
    waiting: VecDeque<Waiting>,
    /// When the one in front could have gone.
    front_since: Option<Instant>,
    turn: (u64, f64),
    pausing: Option<Instant>,
    /// The link knows that a slice is wanted.
    called: bool,
    standing: Standing,
    holders: u32,
    /// Not before then.
    next_ask: Instant,
    last_ask: Instant,
    /// What was told when it was last asked, until the answer is there.
    telling: (f64, f64),
    /// Until then the slices are good.
    until: Instant,
    /// When the last one left.
    left: Instant,
}

#[derive(Debug)]
struct Side {
    rate: Rate,
    bucket: Bucket,
    /// Taken by the clock and not told yet.
    untold: f64,
}

#[derive(Debug)]
struct Sitter {
    seat: u64,
    requests: Option<f64>,
    tokens: Option<f64>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Waiting {
    seat: u64,
    tokens: f64,
    /// When it last asked.
    seen: Instant,
    /// It was let through since: it stands here for the rest of its turn.
    through: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Feed {
    Clock,
    Slices,
    /// By the clock, a share.
    Away(f64),
    /// Likewise, until as many are seen again or it is over.
    Settling(f64, Instant, u32),
}

impl Side {
    fn part(&self, feed: Feed) -> Rate {
        match feed {
            Feed::Clock | Feed::Slices => self.rate,
            Feed::Away(share) | Feed::Settling(share, ..) => self.rate.part(share),
        }
    }
}

impl Held {
    fn sides(&mut self) -> impl Iterator<Item = &mut Side> {
        self.requests.iter_mut().chain(self.tokens.iter_mut())
    }

    fn fill(&mut self, now: Instant) {
        let feed = self.feed;
        if feed != Feed::Slices {
            self.sides().for_each(|side| side.bucket.fill(side.part(feed), now));
        }
    }

    /// When one request can go out; None: now.
    fn ready(&self, now: Instant, tokens: f64) -> Option<Instant> {
        let mut at = None;
        for (side, need) in [(&self.requests, 1.0), (&self.tokens, tokens)] {
            let Some(side) = side else { continue };
            let rate = side.part(self.feed);
            let missing = match self.feed {
                // What is there is good for a while; it is always so little that all of it counts as over together.
                Feed::Slices if now >= self.until => Some(need.min(rate.most)),
                _ => side.bucket.missing(need, rate.most),
            };
            if let Some(missing) = missing {
                let grown = if self.feed == Feed::Slices { now + BEAT } else { grown(now, missing, rate) };
                at = at.max(Some(grown));
            }
        }
        at
    }

    fn wait(&mut self, seat: u64, tokens: f64, now: Instant) {
        match self.waiting.iter_mut().find(|waiting| waiting.seat == seat) {
            Some(waiting) => (waiting.tokens, waiting.seen, waiting.through) = (tokens, now, false),
            None => self.waiting.push_back(Waiting { seat, tokens, seen: now, through: false }),
        }
    }

    fn leave(&mut self, seat: u64) {
        if self.waiting.front().is_some_and(|front| front.seat == seat) {
            self.front_since = None;
        }
        self.waiting.retain(|waiting| waiting.seat != seat);
    }

    fn admit(&mut self, seat: u64, now: Instant, tokens: f64) -> Option<Instant> {
        self.fill(now);
        while let Some(front) = self.waiting.front().filter(|front| front.seat != seat) {
            let (front, ready) = (front.seat, self.ready(now, front.tokens));
            let since = match ready {
                Some(at) => {
                    self.front_since = None;
                    at
                }
                None => *self.front_since.get_or_insert(now),
            };
            if now < since + GRACE {
                self.wait(seat, tokens, now);
                return Some(since + GRACE);
            }
            // It had its turn and did not come.
            self.leave(front);
        }
        let at = self.ready(now, tokens);
        if at.is_some() {
            self.wait(seat, tokens, now);
        } else if let Some(front) = self.waiting.front_mut() {
            front.through = true;
        }
        at
    }

    /// The one that is served next, as far as it wants anything.
    fn next(&self) -> Option<&Waiting> {
        self.waiting.iter().find(|waiting| !waiting.through)
    }

    fn sent(&mut self, seat: u64, tokens: f64) {
        let feed = self.feed;
        let mut worth: f64 = 0.0;
        for (side, amount) in [(&mut self.requests, 1.0), (&mut self.tokens, tokens)] {
            let Some(side) = side else { continue };
            side.bucket.level -= amount;
            worth = worth.max(amount / side.rate.per_second);
            if matches!(feed, Feed::Settling(..)) {
                side.untold += amount;
            }
        }
        if self.turn.0 != seat {
            self.turn = (seat, TURN);
        }
        self.turn.1 -= worth;
        if self.turn.1 <= 0.0 {
            self.turn = (0, 0.0);
            self.leave(seat);
        } else {
            self.front_since = None;
        }
    }

    fn give_back(&mut self, amount: f64) {
        let feed = self.feed;
        if let Some(side) = &mut self.tokens {
            let most = side.part(feed).most;
            side.bucket.give_back(amount, most);
            if matches!(feed, Feed::Settling(..)) {
                side.untold -= amount;
            }
        }
    }

    /// The smallest limits that anybody here was told hold for all.
    fn settle_rates(&mut self, now: Instant) {
        let least = |pick: fn(&Sitter) -> Option<f64>| self.seats.iter().filter_map(pick).min_by(f64::total_cmp);
        let (requests, tokens) = (least(|seat| seat.requests), least(|seat| seat.tokens));
        let full = self.feed == Feed::Clock;
        for (side, limit) in [(&mut self.requests, requests), (&mut self.tokens, tokens)] {
            let rate = limit.map(Rate::per_minute);
            match (&mut *side, rate) {
                (Some(side), Some(rate)) => side.rate = rate,
                (_, Some(rate)) => {
                    *side = Some(Side { rate, bucket: Bucket::new(if full { rate.most } else { 0.0 }, now), untold: 0.0 });
                }
                (_, None) => *side = None,
            }
        }
    }

    /// Seconds' worth of a slice.
    fn slice(&self) -> f64 {
        SLICE.min(SLICES / f64::from(self.holders.max(1)))
    }

    fn low(&self, now: Instant) -> bool {
        let slice = self.slice();
        let low = |side: &Option<Side>| side.as_ref().is_some_and(|side| side.bucket.level < (side.rate.per_second * slice).max(1.0) / 2.0);
        now >= self.until || low(&self.requests) || low(&self.tokens)
    }

    fn wants(&mut self, now: Instant) -> (Want, Want) {
        let (slice, over) = (self.slice(), now >= self.until);
        let front = self.next().map(|front| front.tokens);
        let slices = self.feed == Feed::Slices;
        let called = self.called;
        let want = |side: &mut Option<Side>, need: Option<f64>| {
            let Some(side) = side else { return Want::default() };
            let mut want = Want { per_second: side.rate.per_second, most: side.rate.most, ..Want::default() };
            want.spent = std::mem::take(&mut side.untold);
            if !slices {
                return want;
            }
            // What was overdrawn is owed; what was not used in time goes back.
            if over || side.bucket.level < 0.0 {
                want.spent -= std::mem::take(&mut side.bucket.level);
            }
            let need = need.map_or(0.0, |need| need.min(side.rate.most));
            want.least = (need - side.bucket.level).max(0.0);
            if called {
                let target = (side.rate.per_second * slice).max(1.0).min(side.rate.most).max(need);
                want.want = (target - side.bucket.level).max(0.0);
            }
            want
        };
        let requests = want(&mut self.requests, front.map(|_| 1.0));
        let tokens = want(&mut self.tokens, front);
        self.telling = (requests.spent, tokens.spent);
        (requests, tokens)
    }
}

impl Limit {
    pub fn new(name: Key, link: Option<Arc<dyn Link>>, now: Instant) -> Self {
        Limit {
            name,
            epoch: now,
            paused: AtomicU64::new(0),
            rated: AtomicBool::new(false),
            held: Mutex::new(Held {
                seats: Vec::new(),
                next_seat: 1,
                requests: None,
                tokens: None,
                feed: if link.is_some() { Feed::Slices } else { Feed::Clock },
                waiting: VecDeque::new(),
                front_since: None,
                turn: (0, 0.0),
                pausing: None,
                called: false,
                standing: Standing::New,
                holders: 0,
                next_ask: now,
                last_ask: now.checked_sub(BEAT).unwrap_or(now),
                telling: (0.0, 0.0),
                until: now,
                left: now,
            }),
            link,
        }
    }

    /// A digest of the model's place and name and of the key that is sent.
    pub fn name(&self) -> &Key {
        &self.name
    }

    /// Take part. `wake` is rung when something can go out that could not before.
    pub fn join(self: &Arc<Self>, lane: &LaneConfig, wake: Arc<Notify>, now: Instant) -> Seat {
        let mut held = lock(&self.held);
        let number = held.next_seat;
        held.next_seat += 1;
        held.seats.push(Sitter { seat: number, requests: lane.requests_per_minute, tokens: lane.tokens_per_minute, wake });
        held.settle_rates(now);
        self.rated.store(held.requests.is_some() || held.tokens.is_some(), Ordering::Release);
        drop(held);
        Seat { limit: self.clone(), number }
    }

    fn paused(&self) -> Option<Instant> {
        match self.paused.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(self.epoch + Duration::from_nanos(nanos)),
        }
    }

    fn pause(&self, until: Instant) {
        let nanos = until.saturating_duration_since(self.epoch).as_nanos();
        self.paused.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// What to ask for now, or when to look again. For whoever keeps the limit for several processes.
    pub fn ask(&self, now: Instant) -> Result<Ask, Instant> {
        let mut held = lock(&self.held);
        let held = &mut *held;
        held.waiting.retain(|waiting| now < waiting.seen + PATIENCE);
        let slices = held.feed == Feed::Slices;
        let stock = slices && held.sides().any(|side| side.bucket.level > 0.0);
        let wanting = (slices && held.called) || matches!(held.feed, Feed::Settling(..));
        let mut next = if held.seats.is_empty() { now + BEAT } else { held.last_ask + BEAT };
        for (some, at) in [(wanting, held.next_ask), (stock, held.until), (held.pausing.is_some(), now)] {
            next = if some { next.min(at) } else { next };
        }
        if now < next {
            return Err(next);
        }
        held.called |= slices && held.next().is_some();
        let (requests, tokens) = held.wants(now);
        let pause = held.pausing.take().map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        held.called = false;
        held.last_ask = now;
        Ok(Ask { standing: held.standing, requests, tokens, pause })
    }

    /// The answer to what was asked at `asked`.
    pub fn granted(&self, asked: Instant, now: Instant, grant: &Grant) {
        if !grant.pause.is_zero() {
            self.pause(now + grant.pause.min(LONGEST_WAIT));
        }
        let mut held = lock(&self.held);
        let held = &mut *held;
        let before = std::mem::replace(&mut held.holders, grant.holders.max(1));
        held.standing = Standing::Known;
        held.telling = (0.0, 0.0);
        let was = held.feed;
        held.feed = match was {
            Feed::Away(_) if before <= held.holders => Feed::Slices,
            Feed::Away(share) => Feed::Settling(share, now + SETTLE, before),
            Feed::Settling(_, until, before) if held.holders >= before || now >= until => Feed::Slices,
            other => other,
        };
        let pace = Duration::from_secs_f64(held.slice() / 2.0).max(PACE);
        held.next_ask = now + pace.max(grant.wait.min(BEAT));
        if held.feed != Feed::Slices {
            return;
        }
        if was != Feed::Slices {
            held.sides().for_each(|side| side.bucket.begin(side.bucket.level.min(0.0), now));
        }
        let mut some = false;
        for (side, amount) in [(&mut held.requests, grant.requests), (&mut held.tokens, grant.tokens)] {
            if let Some(side) = side {
                side.bucket.level += amount;
                some |= amount > 0.0;
            }
        }
        if some {
            held.until = asked + LEASE;
        }
        // Who still waits asks again.
        held.called |= held.next().is_some();
        if some {
            for waiting in &held.waiting {
                if let Some(seat) = held.seats.iter().find(|seat| seat.seat == waiting.seat) {
                    seat.wake.notify_one();
                }
            }
        }
    }

    /// Whoever keeps the limit for all does not answer.
    pub fn missed(&self, now: Instant) {
        let mut held = lock(&self.held);
        let held = &mut *held;
        if matches!(held.feed, Feed::Away(_)) {
            return;
        }
        let met = held.holders > 0;
        let share = if met { 1.0 / f64::from(held.holders) } else { UNMET };
        let (feed, seen) = match held.feed {
            // It had not yet seen all of those that there were.
            Feed::Settling(share, _, before) => (Feed::Away(share), before),
            _ => (Feed::Away(share), held.holders),
        };
        let slices = held.feed == Feed::Slices;
        (held.feed, held.holders) = (feed, seen);
        if held.standing == Standing::Known {
            held.standing = Standing::Back;
        }
        let told = std::mem::take(&mut held.telling);
        for (side, told) in [(&mut held.requests, told.0), (&mut held.tokens, told.1)] {
            if let Some(side) = side {
                // What is left of a slice is forgotten, what was overdrawn is not.
                if slices {
                    let level = if met { side.bucket.level.min(0.0) } else { side.part(feed).most };
                    side.bucket.begin(level - told.max(0.0), now);
                }
                side.untold = 0.0;
            }
        }
        for seat in &held.seats {
            seat.wake.notify_one();
        }
    }

    /// Nobody has held it for a while.
    pub fn forgotten(&self, now: Instant) -> bool {
        let held = lock(&self.held);
        held.seats.is_empty() && now >= held.left + MEMORY
    }

    /// Processes that hold it, as far as is known.
    pub fn holders(&self) -> u32 {
        lock(&self.held).holders
    }
}

/// An engine's place at a limit. Dropping it leaves.
#[derive(Debug)]
pub struct Seat {
    limit: Arc<Limit>,
    number: u64,
}

impl Seat {
    /// When a request of so many tokens may go out; None: now.
    pub fn admit(&self, now: Instant, tokens: u64) -> Option<Instant> {
        let limit = &*self.limit;
        if let Some(until) = limit.paused().filter(|until| *until > now) {
            return Some(until);
        }
        if !limit.rated.load(Ordering::Acquire) {
            return None;
        }
        let mut held = lock(&limit.held);
        let at = held.admit(self.number, now, tokens as f64);
        let call = at.is_some() && held.feed == Feed::Slices && !std::mem::replace(&mut held.called, true);
        drop(held);
        if let Some(link) = limit.link.as_ref().filter(|_| call) {
            link.wanted();
        }
        at
    }

    /// It goes out.
    pub fn sent(&self, tokens: u64, now: Instant) {
        let limit = &*self.limit;
        if !limit.rated.load(Ordering::Acquire) {
            return;
        }
        let mut held = lock(&limit.held);
        held.sent(self.number, tokens as f64);
        let call = held.feed == Feed::Slices && held.low(now) && !std::mem::replace(&mut held.called, true);
        drop(held);
        if let Some(link) = limit.link.as_ref().filter(|_| call) {
            link.wanted();
        }
    }

    /// It took so many tokens and not as many as was thought.
    pub fn ended(&self, estimated: u64, tokens: u64) {
        if self.limit.rated.load(Ordering::Acquire) && estimated != tokens {
            lock(&self.limit.held).give_back(estimated as f64 - tokens as f64);
        }
    }

    /// The server asked for a pause: of all.
    pub fn pause(&self, now: Instant, wait: Duration) {
        let until = now + wait.min(LONGEST_WAIT);
        self.limit.pause(until);
        if let Some(link) = &self.limit.link {
            lock(&self.limit.held).pausing = Some(until);
            link.wanted();
        }
    }

    /// Nothing goes out before this moment.
    pub fn not_before(&self) -> Option<Instant> {
        self.limit.paused()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = lock(&self.limit.held);
        held.leave(self.number);
        held.seats.retain(|seat| seat.seat != self.number);
        held.left = Instant::now();
        if !held.seats.is_empty() {
            held.settle_rates(Instant::now());
            self.limit.rated.store(held.requests.is_some() || held.tokens.is_some(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
