//! The engine's thread: takes jobs as fast as their lanes may send, and ends each exactly once.
//!
//! One thread, so nothing here needs a lock of its own. A job is, at any moment, in one place:
//! its lane's inbox, its queue, out (a task that waits for the server), among the retries, or
//! behind an equal request that is out already.

use crate::attempt;
use crate::budget::{Budget, Verdict};
use crate::commons::Commons;
use crate::config::Config;
use crate::ending::cost;
use crate::json::KeyMap;
use crate::lane::Lane;
use crate::limits::Admission;
use crate::record::{Api, Failure, Job, Kind, Route, Spent};
use crate::retry::Jitter;
use crate::shared::{lock, panic_words, Shared};
use crate::stream::Feed;
use crate::watch::Watch;
use crate::writer::Order;
use crossbeam_channel::Sender;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::future::{poll_fn, Future};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Jobs taken from an inbox at once.
const TAKE: usize = 256;
/// What is cut when the engine is closed may say so within this time.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Keys of recent answers that are remembered, in two generations of this size.
pub const RECENT: usize = 32_768;

/// A request that asks the same as one that is out.
pub struct Follower {
    pub id: u64,
    pub api: Api,
    pub sent: usize,
}

/// What an attempt was when it was sent.
pub struct Sent {
    pub lane: usize,
    pub started: Instant,
    /// What is reserved for it.
    pub most: Spent,
    /// Tokens that it probably takes.
    pub estimated: u64,
}

pub struct State {
    pub lanes: Vec<Lane>,
    pub budget: Budget,
    pub in_flight: KeyMap<Vec<Follower>>,
    pub recent: [KeyMap<u64>; 2],
    pub jitter: Jitter,
    pub retries_made: u64,
    /// Requests that are out.
    pub out: usize,
}

pub struct Dispatcher {
    pub shared: Arc<Shared>,
    pub writer: Sender<Order>,
    pub state: RefCell<State>,
    pub remembers: bool,
    most_in_doubt: usize,
    pub draining: Cell<bool>,
    /// The engine is being closed: nothing more is taken.
    closing: Cell<bool>,
    watch: Rc<Watch>,
    next_wake: Cell<Option<Instant>>,
    /// `run` looks at every lane just now.
    looking: Cell<bool>,
}

impl Dispatcher {
    pub fn new(config: &Config, commons: &Commons, shared: Arc<Shared>, writer: Sender<Order>, spent: Spent) -> Result<Self, String> {
        let now = Instant::now();
        let mut lanes = Vec::with_capacity(config.lanes.len());
        for lane in &config.lanes {
            let seat = commons.limit(lane, now).join(lane, shared.wake.clone(), now);
            lanes.push(Lane::new(lane, lane.fallback.as_ref().and_then(|name| config.position(name)), seat, now)?);
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
                budget: Budget::new(config.budget, spent, config.granted),
                in_flight: KeyMap::default(),
                recent: Default::default(),
                jitter: Jitter::new(u64::from(seed)),
                retries_made: 0,
                out: 0,
            }),
            watch: Watch::new(shared.clone()),
            shared,
            draining: Cell::new(false),
            closing: Cell::new(false),
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
                return self.end().await;
            }
            if self.shared.streams.some_cancelled() {
                self.end_streams(Feed::cancelled, "cancelled before it was sent");
            }
            let lanes = self.state.borrow().lanes.len();
            for lane in 0..lanes {
                self.pump(lane);
            }
            let now = Instant::now();
            self.watch.sweep(now);
            for lane in &self.state.borrow().lanes {
                if let Some(at) = lane.endpoint.tidy(now) {
                    self.alarm(at);
                }
            }
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

    /// Cut what is out, and wait a moment for its last words: the streams among it have readers.
    async fn end(&self) {
        self.draining.set(true);
        self.closing.set(true);
        self.watch.cut();
        self.end_streams(|_| true, "the engine was closed before this was sent");
        let until = Instant::now() + LAST_WORDS;
        while self.state.borrow().out > 0 && Instant::now() < until && !self.shared.failed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// End the streams that wait, wherever they stand.
    fn end_streams(&self, which: impl Fn(&Feed) -> bool, words: &str) {
        let state = &mut *self.state.borrow_mut();
        for lane in 0..state.lanes.len() {
            self.shared.inboxes[lane].take_streams(&mut state.lanes[lane].going);
            for job in state.lanes[lane].streams(&which) {
                self.close_unsent(state, job, Failure::new(Kind::Cancelled, words));
            }
        }
    }

    /// Take new orders; true: close.
    fn obey(&self) -> bool {
        let mut orders = lock(&self.shared.orders);
        let state = &mut *self.state.borrow_mut();
        if let Some((ceilings, open)) = orders.budget.take() {
            state.budget.allow(ceilings, open);
            self.shared.short.store(false, Ordering::Release);
        }
        for ids in std::mem::take(&mut orders.withdraw) {
            for lane in 0..state.lanes.len() {
                let new = self.shared.inboxes[lane].withdraw(&ids).into_iter().map(|job| *job);
                for job in state.lanes[lane].withdraw(&ids).into_iter().chain(new) {
                    self.close_unsent(state, job, Failure::new(Kind::Cancelled, "given up before this was asked"));
                }
            }
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
    pub fn alarm(&self, at: Instant) {
        if self.next_wake.get().is_none_or(|old| at < old) {
            self.next_wake.set(Some(at));
            if !self.looking.get() {
                self.shared.wake.notify_one();
            }
        }
    }

    /// A streamed answer of a lane has begun to come.
    fn begun(self: &Rc<Self>, index: usize) {
        self.state.borrow_mut().lanes[index].governor.begun();
        self.pump(index);
    }

    /// Send whatever a lane may send now.
    fn pump(self: &Rc<Self>, index: usize) {
        while !self.closing.get() {
            let now = Instant::now();
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let lane = &mut state.lanes[index];
            while lane.retries.peek().is_some_and(|retry| retry.0.due <= now || self.draining.get()) {
                if let Some(Reverse(retry)) = lane.retries.pop() {
                    lane.first(retry.job);
                }
            }
            for job in lane.expired(now) {
                self.expire(state, job);
            }
            let (lane, inbox) = (&mut state.lanes[index], &self.shared.inboxes[index]);
            inbox.take_streams(&mut lane.going);
            if lane.queue.is_empty() {
                inbox.take(TAKE, &mut lane.queue);
            }
            // What is new waits until the caller has taken what is done.
            let next = lane.going.pop_front().or_else(|| if self.shared.crowded() { None } else { lane.queue.pop_front() });
            let Some(job) = next else {
                lane.waiting_since = None;
                return self.look_again(lane);
            };
            if lane.sought && lane.going.len() < TAKE / 2 {
                lane.sought = false;
                self.shared.wake.notify_one();
            }
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
                    lane.first(job);
                    return self.look_again(lane);
                }
                Step::Fail(failure) => self.close_unsent(state, *job, failure),
                Step::Divert(to) if state.lanes[to].going.len() >= TAKE => {
                    // It is woken when the other lane has sent half of them.
                    state.lanes[to].sought = true;
                    let lane = &mut state.lanes[index];
                    lane.first(job);
                    return self.look_again(lane);
                }
                Step::Divert(to) => self.divert(state, job, to),
            }
        }
    }

    /// Wake for what waits in this lane.
    fn look_again(&self, lane: &Lane) {
        if let Some(at) = lane.retries.peek().map(|retry| retry.0.due).into_iter().chain(lane.expiry).min() {
            self.alarm(at);
        }
    }

    /// None: the job follows an equal one, or is answered by one that has ended.
    fn share(&self, state: &mut State, mut job: Box<Job>) -> Option<Box<Job>> {
        if !job.shareable || job.leads || job.stream.is_some() {
            return Some(job);
        }
        if let Some(followers) = state.in_flight.get_mut(&job.key) {
            self.shared.found.fetch_add(1, Ordering::AcqRel);
            followers.push(Follower { id: job.id, api: job.route.api, sent: job.body.len() });
            return None;
        }
        if let Some(source) = state.recent.iter().find_map(|generation| generation.get(&job.key)).copied() {
            let (api, sent) = (job.route.api, job.body.len());
            let outcome = job.fail(Failure::new(Kind::Cancelled, "the equal request's answer is gone"));
            self.shared.found.fetch_add(1, Ordering::AcqRel);
            self.tell(Order::Copy { source, outcome: Box::new(outcome), api, sent });
            return None;
        }
        job.leads = true;
        state.in_flight.insert(job.key, Vec::new());
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
            Verdict::Short => {
                self.shared.short.store(true, Ordering::Release);
                Step::Wait
            }
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
        let limit = lane.deadline(*job.began.get_or_insert(now));
        {
            let mut metrics = lock(&self.shared.metrics);
            metrics.sent += 1;
            let shown = &mut metrics.lanes[index].1;
            shown.sent += 1;
            if let Some(since) = lane.waiting_since.take() {
                shown.waited += now.saturating_duration_since(since).as_secs_f64();
            }
            crate::ending::show(shown, lane);
        }
        let (this, endpoint, out) = (self.clone(), lane.endpoint.clone(), self.watch.enter(limit));
        let sent = Sent { lane: index, started: now, most, estimated };
        tokio::task::spawn_local(async move {
            let shared = this.shared.clone();
            let mut work = pin!(async {
                let (attempt, hints) = attempt::one(&endpoint, &job, &target, &out, &|| this.begun(index)).await;
                drop(out);
                this.ended(&sent, job, attempt, hints);
                this.pump(index);
            });
            poll_fn(|context| {
                // A task that panics takes its request with it: then the engine must not go on as if nothing was.
                catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))).unwrap_or_else(|panic| {
                    shared.fail(format!("a task of the engine panicked; this is a fault of Wordmill: {}", panic_words(&*panic)));
                    Poll::Ready(())
                })
            })
            .await;
        });
    }
}

enum Step {
    /// The most that it can cost, and the tokens it probably takes.
    Send(Spent, u64),
    Wait,
    Fail(Failure),
    Divert(usize),
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
