//! What the caller's threads, the engine's thread and the writer share.

use crate::bell::{Bell, Ready};
use crate::config::Ceilings;
use crate::metrics::Metrics;
use crate::record::{Job, Outcome};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Offered and not yet taken, for each lane.
const INBOX_JOBS: usize = 4096;
const INBOX_BYTES: usize = 32 << 20;
/// Durable and not yet polled.
const OUTBOX: usize = 16_384;
const OUTBOX_BYTES: usize = 64 << 20;

/// A lock that outlives a panic: what it guards is plain data.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Box<Job>>,
    bytes: usize,
}

/// Where a lane's jobs wait until the engine takes them.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    space: Condvar,
}

impl Inbox {
    /// Waits until at least one more fits; how many do.
    pub fn room(&self, until: Instant, open: impl Fn() -> bool) -> usize {
        let mut waiting = lock(&self.waiting);
        loop {
            if waiting.jobs.len() < INBOX_JOBS && waiting.bytes < INBOX_BYTES {
                return INBOX_JOBS - waiting.jobs.len();
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero() && open()) else { return 0 };
            waiting = self.space.wait_timeout(waiting, left.min(Duration::from_millis(100))).unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    pub fn put(&self, mut jobs: VecDeque<Box<Job>>) {
        let mut waiting = lock(&self.waiting);
        waiting.bytes += jobs.iter().map(|job| job.body.len()).sum::<usize>();
        waiting.jobs.append(&mut jobs);
    }

    /// Up to `most` jobs.
    pub fn take(&self, most: usize, into: &mut VecDeque<Box<Job>>) {
        let mut waiting = lock(&self.waiting);
        let count = waiting.jobs.len().min(most);
        if count == 0 {
            return;
        }
        for _ in 0..count {
            if let Some(job) = waiting.jobs.pop_front() {
                waiting.bytes -= job.body.len();
                into.push_back(job);
            }
        }
        drop(waiting);
        self.space.notify_all();
    }

    pub fn len(&self) -> usize {
        lock(&self.waiting).jobs.len()
    }
}

#[derive(Default)]
struct Done {
    outcomes: VecDeque<Outcome>,
    bytes: usize,
    bell: Option<Bell>,
}

/// Where durable outcomes wait to be polled.
#[derive(Default)]
pub struct Outbox {
    done: Mutex<Done>,
    came: Condvar,
    space: Condvar,
}

fn weight(outcome: &Outcome) -> usize {
    outcome.raw.len() + outcome.result.as_ref().map_or(64, |reply| reply.text.len())
}

impl Outbox {
    /// Waits while it is full, as long as `open` says so.
    pub fn put(&self, outcomes: impl IntoIterator<Item = Outcome>, open: impl Fn() -> bool) {
        let mut done = lock(&self.done);
        while (done.outcomes.len() >= OUTBOX || done.bytes >= OUTBOX_BYTES) && open() {
            done = self.space.wait_timeout(done, Duration::from_millis(100)).unwrap_or_else(|e| e.into_inner()).0;
        }
        for outcome in outcomes {
            done.bytes += weight(&outcome);
            done.outcomes.push_back(outcome);
        }
        if let Some(bell) = &done.bell {
            bell.ring();
        }
        drop(done);
        self.came.notify_all();
    }

    /// Up to `limit`, waiting for the first one up to `timeout` and then `linger` for more.
    pub fn take(&self, limit: usize, timeout: Duration, linger: Duration, ended: impl Fn() -> bool) -> Vec<Outcome> {
        let mut until = Instant::now() + timeout;
        let mut lingering = linger.is_zero();
        let mut done = lock(&self.done);
        loop {
            if done.outcomes.len() >= limit || (!done.outcomes.is_empty() && lingering) || ended() {
                break;
            }
            if !done.outcomes.is_empty() && !lingering {
                lingering = true;
                until = Instant::now() + linger;
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            let (guard, waited) = self.came.wait_timeout(done, left).unwrap_or_else(|e| e.into_inner());
            done = guard;
            if waited.timed_out() && !done.outcomes.is_empty() {
                break;
            }
        }
        let count = done.outcomes.len().min(limit);
        let taken: Vec<Outcome> = done.outcomes.drain(..count).collect();
        done.bytes -= taken.iter().map(weight).sum::<usize>();
        if done.outcomes.is_empty() {
            if let Some(bell) = &done.bell {
                bell.hush();
            }
        }
        drop(done);
        self.space.notify_all();
        taken
    }

    /// Wake all who wait, so that they look again.
    pub fn wake(&self) {
        if let Some(bell) = &lock(&self.done).bell {
            bell.ring();
        }
        self.came.notify_all();
        self.space.notify_all();
    }

    /// A file descriptor that is readable while outcomes wait.
    #[cfg(unix)]
    pub fn descriptor(&self) -> std::io::Result<i32> {
        let mut done = lock(&self.done);
        if done.bell.is_none() {
            let bell = Bell::new()?;
            if !done.outcomes.is_empty() {
                bell.ring();
            }
            done.bell = Some(bell);
        }
        Ok(done.bell.as_ref().map_or(-1, |bell| bell.descriptor()))
    }
}

/// What the engine is told while it runs.
#[derive(Default)]
pub struct Orders {
    /// Send nothing more; cut what is out at this moment.
    pub cancel: Option<Instant>,
    pub ceilings: Option<Ceilings>,
    pub close: bool,
}

#[derive(Default)]
pub struct Shared {
    pub inboxes: Vec<Inbox>,
    pub outbox: Outbox,
    pub streams: Arc<Ready>,
    pub wake: Notify,
    pub orders: Mutex<Orders>,
    pub metrics: Mutex<Metrics>,
    pub fault: Mutex<Option<String>>,
    /// Sent and not yet durable.
    pub in_doubt: AtomicUsize,
    /// On their way to the writer without having been sent (found in the cache).
    pub found: AtomicUsize,
    pub offered: AtomicU64,
    pub polled: AtomicU64,
    pub finished: std::sync::atomic::AtomicBool,
}

impl Shared {
    pub fn new(lanes: usize) -> Arc<Self> {
        Arc::new(Shared { inboxes: (0..lanes).map(|_| Inbox::default()).collect(), ..Shared::default() })
    }

    /// The engine cannot go on; the first reason counts.
    pub fn fail(&self, words: String) {
        lock(&self.fault).get_or_insert(words);
        self.wake.notify_one();
        self.outbox.wake();
        self.streams.wake();
    }

    pub fn failed(&self) -> bool {
        lock(&self.fault).is_some()
    }

    /// Everything offered was polled, and no more will be offered.
    pub fn idle(&self) -> bool {
        self.finished.load(Ordering::Acquire) && self.polled.load(Ordering::Acquire) >= self.offered.load(Ordering::Acquire)
    }
}
