//! The engine's thread: takes jobs as fast as their lanes may send, and ends each exactly once.
//!
//! One thread, so nothing here needs a lock of its own. A job is, at any moment, in one place:
//! its lane's inbox, its queue, out (a task that waits for the server), among the retries, or
//! behind an equal request that is out already.

use crate::attempt::{self, Attempt};
use crate::budget::{Budget, Verdict};
use crate::config::{seconds, Config, LaneConfig};
use crate::http::{Endpoint, Hints};
use crate::json::{Key, KeyMap};
use crate::limits::{Admission, Ended, Governor};
use crate::record::{flag, Api, Failure, Job, Kind, Outcome, Reply, Route, Spent};
use crate::retry::{backoff, Jitter};
use crate::shape;
use crate::shared::{lock, Shared};
use crate::watch::Watch;
use crate::writer::Order;
use bytes::Bytes;
use crossbeam_channel::Sender;
use hyper::Uri;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 429s that one request may meet before it fails.
const THROTTLED: u32 = 60;
/// Jobs taken from an inbox at once.
const TAKE: usize = 256;
/// Keys of recent answers that are remembered, in two generations of this size.
const RECENT: usize = 32_768;

struct Lane {
    config: LaneConfig,
    endpoint: Rc<Endpoint>,
    governor: Governor,
    queue: VecDeque<Box<Job>>,
    retries: BinaryHeap<Reverse<Retry>>,
    fallback: Option<usize>,
    /// Addresses of the few paths that are used.
    targets: Vec<(String, Rc<Uri>)>,
    waiting_since: Option<Instant>,
}

impl Lane {
    /// The address of a path below the base URL.
    fn target(&mut self, path: &str) -> Result<Rc<Uri>, String> {
        if let Some((_, target)) = self.targets.iter().find(|(known, _)| known == path) {
            return Ok(target.clone());
        }
        let target = Rc::new(self.endpoint.target(path)?);
        self.targets.push((path.into(), target.clone()));
        Ok(target)
    }
}

struct Retry {
    due: Instant,
    order: u64,
    job: Box<Job>,
}

impl PartialEq for Retry {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}
impl Eq for Retry {}
impl PartialOrd for Retry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Retry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// Requests that ask the same as one that is out.
type Followers = Vec<Box<Job>>;

struct State {
    lanes: Vec<Lane>,
    budget: Budget,
    in_flight: KeyMap<Followers>,
    recent: [KeyMap<u64>; 2],
    jitter: Jitter,
    retries_made: u64,
    /// Requests that are out.
    out: usize,
}

pub struct Dispatcher {
    shared: Arc<Shared>,
    writer: Sender<Order>,
    state: RefCell<State>,
    remembers: bool,
    most_in_doubt: usize,
    draining: Cell<bool>,
    watch: Rc<Watch>,
    next_wake: Cell<Option<Instant>>,
    /// `run` looks at every lane just now.
    looking: Cell<bool>,
}

impl Dispatcher {
    pub fn new(config: &Config, shared: Arc<Shared>, writer: Sender<Order>, spent: Spent) -> Result<Self, String> {
        let now = Instant::now();
        let mut lanes = Vec::with_capacity(config.lanes.len());
        for lane in &config.lanes {
            lanes.push(Lane {
                endpoint: Rc::new(Endpoint::new(lane).map_err(|words| format!("model {:?}: {words}", lane.name))?),
                governor: Governor::new(lane, now),
                queue: VecDeque::new(),
                retries: BinaryHeap::new(),
                fallback: lane.fallback.as_ref().and_then(|name| config.position(name)),
                targets: Vec::new(),
                waiting_since: None,
                config: lane.clone(),
            });
        }
        let widest = config.lanes.iter().map(|lane| lane.concurrency.unwrap_or(lane.max_concurrency)).sum::<usize>();
        {
            let mut metrics = lock(&shared.metrics);
            metrics.spent_ever = spent;
            metrics.lanes = config.lanes.iter().map(|lane| (lane.name.clone(), Default::default())).collect();
        }
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.subsec_nanos());
        Ok(Dispatcher {
            writer,
            remembers: config.records.is_some(),
            most_in_doubt: if config.in_doubt > 0 { config.in_doubt } else { widest.saturating_mul(2).clamp(1024, 16_384) },
            state: RefCell::new(State {
                lanes,
                budget: Budget::new(config.budget, spent),
                in_flight: KeyMap::default(),
                recent: Default::default(),
                jitter: Jitter::new(u64::from(seed)),
                retries_made: 0,
                out: 0,
            }),
            watch: Watch::new(shared.clone()),
            shared,
            draining: Cell::new(false),
            next_wake: Cell::new(None),
            looking: Cell::new(false),
        })
    }

    /// Until the engine is closed or fails.
    pub async fn run(self: Rc<Self>) {
        loop {
            self.next_wake.set(None);
            self.looking.set(true);
            if self.obey() || self.shared.failed() {
                self.watch.cut();
                return;
            }
            let lanes = self.state.borrow().lanes.len();
            for lane in 0..lanes {
                self.pump(lane);
            }
            self.watch.sweep(Instant::now());
            if let Some(next) = self.watch.next() {
                self.alarm(next);
            }
            self.looking.set(false);
            match self.next_wake.get() {
                Some(at) => {
                    let at = tokio::time::Instant::from_std(at);
                    tokio::select! {
                        () = self.shared.wake.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => self.shared.wake.notified().await,
            }
        }
    }

    /// Take new orders; true: close.
    fn obey(&self) -> bool {
        let mut orders = lock(&self.shared.orders);
        if let Some(ceilings) = orders.ceilings.take() {
            self.state.borrow_mut().budget.raise(ceilings);
            lock(&self.shared.metrics).budget_reached = None;
        }
        if let Some(moment) = orders.cancel {
            self.draining.set(true);
            if moment <= Instant::now() {
                self.watch.cut();
            } else {
                self.alarm(moment);
            }
        }
        orders.close
    }

    /// Look again at that moment. A task that ended may need it before the moment that `run` waits for.
    fn alarm(&self, at: Instant) {
        if self.next_wake.get().is_none_or(|old| at < old) {
            self.next_wake.set(Some(at));
            if !self.looking.get() {
                self.shared.wake.notify_one();
            }
        }
    }

    /// Send whatever a lane may send now.
    fn pump(self: &Rc<Self>, index: usize) {
        loop {
            let now = Instant::now();
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let lane = &mut state.lanes[index];
            while lane.retries.peek().is_some_and(|retry| retry.0.due <= now || self.draining.get()) {
                if let Some(Reverse(retry)) = lane.retries.pop() {
                    lane.queue.push_front(retry.job);
                }
            }
            if lane.queue.is_empty() {
                self.shared.inboxes[index].take(TAKE, &mut lane.queue);
            }
            let Some(job) = lane.queue.pop_front() else {
                lane.waiting_since = None;
                if let Some(retry) = lane.retries.peek() {
                    self.alarm(retry.0.due);
                }
                return;
            };
            if self.draining.get() {
                self.close_unsent(state, *job, Failure::new(Kind::Cancelled, "the run was cancelled before this was asked"));
                continue;
            }
            if job.stream.as_ref().is_some_and(crate::stream::Feed::cancelled) {
                self.close_unsent(state, *job, Failure::new(Kind::Cancelled, "cancelled before it was sent"));
                continue;
            }
            let Some(job) = self.share(state, job) else { continue };
            match self.admit(state, index, &job, now) {
                Step::Send(most, estimated) => self.send(state, index, job, most, estimated, now),
                Step::Wait => {
                    let lane = &mut state.lanes[index];
                    lane.queue.push_front(job);
                    if let Some(retry) = lane.retries.peek() {
                        self.alarm(retry.0.due);
                    }
                    return;
                }
                Step::Fail(failure) => self.close_unsent(state, *job, failure),
                Step::Divert(to) => self.divert(state, job, to),
            }
        }
    }

    /// None: the job follows an equal one, or is answered by one that has ended.
    fn share(&self, state: &mut State, mut job: Box<Job>) -> Option<Box<Job>> {
        if !job.shareable || job.leads || job.stream.is_some() {
            return Some(job);
        }
        if let Some(followers) = state.in_flight.get_mut(&job.key) {
            followers.push(job);
            return None;
        }
        if let Some(source) = state.recent.iter().find_map(|generation| generation.get(&job.key)).copied() {
            let (api, sent) = (job.route.api, job.body.len());
            let outcome = job.fail(Failure::new(Kind::Cancelled, "the equal request's answer is gone"));
            self.tell(Order::Copy { source, outcome: Box::new(outcome), api, sent });
            return None;
        }
        job.leads = true;
        state.in_flight.insert(job.key, Followers::new());
        Some(job)
    }

    fn admit(&self, state: &mut State, index: usize, job: &Job, now: Instant) -> Step {
        let lane = &mut state.lanes[index];
        let fresh = job.attempts + job.throttled == 0;
        if fresh
            && !lane.governor.opened()
            && lane.governor.in_flight() + lane.retries.len() >= lane.governor.limit()
            && !lane.governor.broken()
        {
            // Those that wait for another try are under way too.
            return Step::Wait;
        }
        let estimated = lane.governor.estimate(job.body.len(), job.bound);
        let admission = lane.governor.admit(now, estimated);
        if admission != Admission::Now && lane.governor.broken() {
            if let Some(to) = lane.fallback {
                return Step::Divert(to);
            }
        }
        match admission {
            Admission::Now => {}
            Admission::At(at) => {
                lane.waiting_since.get_or_insert(now);
                self.alarm(at);
                return Step::Wait;
            }
            Admission::AtEnd => return Step::Wait,
            Admission::Stopped => {
                let words = lane.governor.stopped().unwrap_or_default().to_string();
                return Step::Fail(Failure::new(Kind::Stopped, words));
            }
        }
        if self.shared.in_doubt.load(Ordering::Acquire) >= self.most_in_doubt {
            // The writer wakes us at its next commit.
            return Step::Wait;
        }
        let most = cost(&lane.config, 1, job.body.len() as u64, job.bound);
        match state.budget.reserve(&most) {
            Verdict::Go => Step::Send(most, estimated),
            Verdict::Wait => Step::Wait,
            Verdict::Reached => {
                let words = state.budget.reached().unwrap_or_default().to_string();
                lock(&self.shared.metrics).budget_reached = Some(words.clone());
                Step::Fail(Failure::new(Kind::Budget, words))
            }
        }
    }

    fn send(self: &Rc<Self>, state: &mut State, index: usize, mut job: Box<Job>, most: Spent, estimated: u64, now: Instant) {
        let lane = &mut state.lanes[index];
        let target = match lane.target(&job.route.path) {
            Ok(target) => target,
            Err(words) => {
                state.budget.settle(&most, &Spent::default());
                return self.close_unsent(state, *job, Failure::new(Kind::BadRequest, words));
            }
        };
        lane.governor.sent(now, estimated);
        state.out += 1;
        self.shared.in_doubt.fetch_add(1, Ordering::AcqRel);
        job.began.get_or_insert(now);
        {
            let mut metrics = lock(&self.shared.metrics);
            metrics.sent += 1;
            let shown = &mut metrics.lanes[index].1;
            shown.sent += 1;
            if let Some(since) = lane.waiting_since.take() {
                shown.waited += now.saturating_duration_since(since).as_secs_f64();
            }
            show(shown, lane);
        }
        let (this, endpoint, out) = (self.clone(), lane.endpoint.clone(), self.watch.enter());
        tokio::task::spawn_local(async move {
            let guard = PanicGuard(this.shared.clone());
            let (mut attempt, hints) = match &job.stream {
                None => attempt::whole(&endpoint, &job, &target, &out).await,
                Some(feed) if feed.whole() => Box::pin(attempt::at_once(&endpoint, &job, &target, &out, feed)).await,
                Some(feed) => Box::pin(attempt::streamed(&endpoint, &job, &target, &out, feed)).await,
            };
            drop(out);
            if let Err(failure) = &mut attempt.result {
                failure.detail = this.scrub(index, std::mem::take(&mut failure.detail));
            }
            this.ended(index, job, attempt, hints, Times { now: Instant::now(), started: now }, most, estimated);
            this.pump(index);
            drop(guard);
        });
    }

    /// No secret ever enters a record.
    fn scrub(&self, index: usize, detail: String) -> String {
        let state = self.state.borrow();
        match state.lanes[index].config.key.as_deref().filter(|key| key.len() >= 4) {
            Some(key) => detail.replace(key, "[key]"),
            None => detail,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn ended(&self, index: usize, mut job: Box<Job>, attempt: Attempt, hints: Hints, times: Times, most: Spent, estimated: u64) {
        let Times { now, started } = times;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.out -= 1;
        let lane = &mut state.lanes[index];
        let real = match &attempt.result {
            Ok(reply) => cost(&lane.config, 1, reply.input_tokens, reply.output_tokens),
            // Nobody knows: count what it can have cost at most.
            Err(failure) if failure.kind.may_cost() => most,
            Err(_) => Spent { requests: 1, ..Spent::default() },
        };
        state.budget.settle(&most, &real);
        if state.budget.limited() {
            // Another lane may wait for what was reserved.
            self.shared.wake.notify_one();
        }
        job.spent.add(&real);
        let failure = attempt.result.as_ref().err();
        if failure.is_some_and(|failure| failure.kind == Kind::Cancelled) {
            lane.governor.withdrawn();
        } else {
            let detail = failure.map_or("", |failure| failure.detail.as_str());
            lane.governor.ended(
                now,
                &Ended {
                    started,
                    failure: failure.map(|failure| failure.kind),
                    estimated,
                    tokens: real.tokens(),
                    output_tokens: real.output_tokens,
                },
                detail,
            );
        }
        if let Some(wait) = hints.exhausted.or(hints.retry_after.filter(|_| failure.is_some_and(|failure| failure.kind.pushes_back()))) {
            lane.governor.pause(now, wait);
        }
        let throttled = failure.is_some_and(|failure| failure.kind == Kind::Throttled);
        job.throttled += u32::from(throttled);
        job.attempts += u32::from(!throttled);
        {
            let mut metrics = lock(&self.shared.metrics);
            let shown = &mut metrics.lanes[index].1;
            match failure {
                None => {
                    shown.done += 1;
                    shown.latency.add(now.saturating_duration_since(started));
                    shown.trouble = None;
                }
                Some(failure) => shown.trouble = Some(failure.to_string()),
            }
            show(shown, lane);
        }
        let failure = match attempt.result {
            Ok(reply) => return self.close(state, *job, Ok(reply), attempt.raw, attempt.partial),
            Err(failure) => failure,
        };
        let retry = self.may_retry(lane, &job, &failure, attempt.shown, now);
        if !retry {
            lane.governor.gave_up(failure.kind, &failure.detail);
            if let Some(words) = lane.governor.stopped() {
                lock(&self.shared.metrics).lanes[index].1.stopped.get_or_insert(words.to_string());
            }
        }
        let elsewhere = failure.kind.retried() || failure.kind.fatal();
        let movable = elsewhere && lane.governor.broken() && !attempt.shown && !self.draining.get();
        let fallback = lane.fallback.filter(|_| movable);
        if !retry && fallback.is_none() {
            return self.close(state, *job, Err(failure), Bytes::new(), attempt.partial);
        }
        *lock(&self.shared.metrics).retried.entry(failure.kind).or_default() += 1;
        self.shared.in_doubt.fetch_sub(1, Ordering::AcqRel);
        let tries = job.attempts + job.throttled;
        job.last = Some(failure);
        if let Some(to) = fallback {
            return self.divert(state, job, to);
        }
        let wait = backoff(tries, state.jitter.draw()).max(hints.retry_after.unwrap_or_default());
        state.retries_made += 1;
        state.lanes[index].retries.push(Reverse(Retry { due: now + wait, order: state.retries_made, job }));
    }

    /// Give a job to the lane that its own falls back to.
    fn divert(&self, state: &mut State, mut job: Box<Job>, to: usize) {
        let from = job.lane;
        match shape::with_model(&job.body, &state.lanes[to].config.model) {
            Ok(body) => job.body = body.into(),
            // It was read before, so it can be read again; but nothing is lost if not.
            Err(words) => return self.close_unsent(state, *job, Failure::new(Kind::BadRequest, words)),
        }
        job.lane = to;
        job.flags |= flag::FALLBACK;
        job.attempts = 0;
        job.throttled = 0;
        state.lanes[to].queue.push_back(job);
        state.lanes[from].waiting_since = None;
        lock(&self.shared.metrics).lanes[from].1.fallback_used += 1;
        self.shared.wake.notify_one();
    }

    fn may_retry(&self, lane: &Lane, job: &Job, failure: &Failure, shown: bool, now: Instant) -> bool {
        let bounded = if failure.kind == Kind::Throttled { job.throttled < THROTTLED } else { job.attempts < lane.config.attempts };
        let in_time = job.began.is_none_or(|began| now.saturating_duration_since(began) < seconds(lane.config.deadline_seconds));
        failure.kind.retried() && bounded && in_time && !shown && !self.draining.get()
    }

    /// The end of a request that was sent.
    fn close(&self, state: &mut State, job: Job, result: Result<Reply, Failure>, raw: Bytes, partial: String) {
        let (api, sent, key, shareable) = (job.route.api, job.body.len(), job.key, job.shareable && job.stream.is_none());
        let mut outcome = job.end(result, raw);
        outcome.held = true;
        outcome.partial = partial;
        if let Ok(reply) = &outcome.result {
            outcome.flags |= if reply.estimated { flag::ESTIMATED } else { 0 } | if reply.refusal { flag::REFUSAL } else { 0 };
        }
        // What a fallback said is not kept as the model's own answer.
        let own = outcome.result.is_ok() && outcome.flags & flag::FALLBACK == 0;
        let followers = if shareable { self.followers(state, &key, outcome.id, own) } else { Vec::new() };
        let copies: Vec<Outcome> = followers.iter().map(|follower| outcome.copy_for(follower.id, flag::JOINED)).collect();
        self.tell(Order::Record(Box::new(outcome), api, sent));
        for copy in copies {
            self.tell(Order::Record(Box::new(copy), api, sent));
        }
    }

    fn followers(&self, state: &mut State, key: &Key, id: u64, good: bool) -> Followers {
        if good && self.remembers {
            if state.recent[0].len() >= RECENT {
                state.recent[1] = std::mem::take(&mut state.recent[0]);
            }
            state.recent[0].insert(*key, id);
        }
        state.in_flight.remove(key).unwrap_or_default()
    }

    /// The end of a request that is not out.
    fn close_unsent(&self, state: &mut State, mut job: Job, mut failure: Failure) {
        if let Some(last) = job.last.take() {
            failure.detail = format!("{} (before: {}: {})", failure.detail, last.kind, last.detail);
        }
        let (api, sent, key, shareable) = (job.route.api, job.body.len(), job.key, job.shareable && job.stream.is_none());
        let outcome = job.fail(failure);
        let followers = if shareable { self.followers(state, &key, outcome.id, false) } else { Vec::new() };
        for follower in followers {
            self.tell(Order::Record(Box::new(outcome.copy_for(follower.id, flag::JOINED)), api, sent));
        }
        self.tell(Order::Record(Box::new(outcome), api, sent));
    }

    fn tell(&self, order: Order) {
        if self.writer.send(order).is_err() {
            self.shared.fail("the writing thread has ended".into());
        }
    }
}

/// A task that panics takes its request with it: then the engine must not go on as if nothing was.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("a task of the engine panicked; this is a fault of Wordmill".into());
        }
    }
}

enum Step {
    /// The most that it can cost, and the tokens it probably takes.
    Send(Spent, u64),
    Wait,
    Fail(Failure),
    Divert(usize),
}

struct Times {
    now: Instant,
    started: Instant,
}

fn cost(lane: &LaneConfig, requests: u64, input: u64, output: u64) -> Spent {
    let money = (input as f64 * lane.price_input + output as f64 * lane.price_output) / 1e6;
    Spent { requests, input_tokens: input, output_tokens: output, money }
}

fn show(shown: &mut crate::metrics::LaneMetrics, lane: &Lane) {
    shown.in_flight = lane.governor.in_flight();
    shown.limit = lane.governor.limit();
    shown.backed_off = lane.governor.backed_off;
    shown.queued = lane.queue.len() + lane.retries.len();
}

/// The thread's body: a runtime of its own, made here and not before a fork.
pub fn run(dispatcher: impl FnOnce() -> Result<Dispatcher, String>, ready: impl FnOnce(Result<(), String>)) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
        Ok(runtime) => runtime,
        Err(error) => return ready(Err(format!("the engine's runtime does not start: {error}"))),
    };
    let dispatcher = match dispatcher() {
        Ok(dispatcher) => Rc::new(dispatcher),
        Err(words) => return ready(Err(words)),
    };
    ready(Ok(()));
    runtime.block_on(dispatcher.run());
    // Tasks that are out end with the runtime: their connections close.
    runtime.shutdown_timeout(Duration::from_millis(100));
}

/// A path that is used for a whole body.
pub fn route(path: &str) -> Arc<Route> {
    Arc::new(Route { path: path.into(), api: Api::of(path) })
}
