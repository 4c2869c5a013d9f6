//! What the caller's threads, the engine's thread and the writer share.

use crate::bell::{Bell, Ready};
use crate::config::Ceilings;
use crate::metrics::Metrics;
use crate::record::{Job, Outcome};
use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Offered and not yet taken, for each lane.
const INBOX_JOBS: usize = 4096;
const INBOX_BYTES: usize = 32 << 20;
/// Durable and not yet polled: with more, nothing new is sent or looked up.
const OUTBOX: usize = 16_384;
const OUTBOX_BYTES: usize = 64 << 20;
/// Answered without having been sent (found, refused, joined) and not yet durable: likewise.
const FOUND: usize = 4096;

/// What a panic said.
pub fn panic_words(panic: &(dyn Any + Send)) -> String {
    panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// A lock that outlives a panic: what it guards is plain data.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Box<Job>>,
    /// Of the jobs.
    bytes: usize,
    streams: VecDeque<Box<Job>>,
}

/// Where a lane's jobs wait until the engine takes them.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    space: Condvar,
    /// There are streams in it.
    streaming: AtomicBool,
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

    /// All jobs with these numbers.
    pub fn withdraw(&self, ids: &Range<u64>) -> VecDeque<Box<Job>> {
        let mut waiting = lock(&self.waiting);
        let (found, left) = std::mem::take(&mut waiting.jobs).into_iter().partition::<VecDeque<_>, _>(|job| ids.contains(&job.id));
        waiting.jobs = left;
        waiting.bytes -= found.iter().map(|job| job.body.len()).sum::<usize>();
        drop(waiting);
        self.space.notify_all();
        found
    }

    /// A stream has a reader who waits: it stands behind no other jobs.
    pub fn put_stream(&self, job: Box<Job>) {
        lock(&self.waiting).streams.push_back(job);
        self.streaming.store(true, Ordering::Release);
    }

    /// All streams.
    pub fn take_streams(&self, into: &mut VecDeque<Box<Job>>) {
        if self.streaming.load(Ordering::Acquire) && self.streaming.swap(false, Ordering::AcqRel) {
            into.append(&mut lock(&self.waiting).streams);
        }
    }

    pub fn len(&self) -> usize {
        let waiting = lock(&self.waiting);
        waiting.jobs.len() + waiting.streams.len()
    }
}

#[derive(Default)]
struct Done {
    outcomes: VecDeque<Outcome>,
    bytes: usize,
    bell: Option<Bell>,
}

impl Done {
    fn full(&self) -> bool {
        self.outcomes.len() >= OUTBOX || self.bytes >= OUTBOX_BYTES
    }
}

/// Where durable outcomes wait to be polled.
#[derive(Default)]
pub struct Outbox {
    done: Mutex<Done>,
    came: Condvar,
    full: AtomicBool,
}

fn weight(outcome: &Outcome) -> usize {
    outcome.raw.len() + outcome.result.as_ref().map_or(64, |reply| reply.text.len())
}

impl Outbox {
    /// Never waits: what is out when it is full still finds its place. Who sends more looks at `full` first.
    pub fn put(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        let mut done = lock(&self.done);
        for outcome in outcomes {
            done.bytes += weight(&outcome);
            done.outcomes.push_back(outcome);
        }
        if let Some(bell) = &done.bell {
            bell.ring();
        }
        self.full.store(done.full(), Ordering::Release);
        drop(done);
        self.came.notify_all();
    }

    /// It holds as much as it should.
    pub fn full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Up to `limit`, waiting for the first one up to `timeout` and then `linger` for more; and whether
    /// it was full and is so no longer.
    pub fn take(&self, limit: usize, timeout: Duration, linger: Duration, ended: impl Fn() -> bool) -> (Vec<Outcome>, bool) {
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
        let now_full = done.full();
        let room = self.full.swap(now_full, Ordering::AcqRel) && !now_full;
        drop(done);
        (taken, room)
    }

    /// Wake all who wait, so that they look again.
    pub fn wake(&self) {
        if let Some(bell) = &lock(&self.done).bell {
            bell.ring();
        }
        self.came.notify_all();
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
    pub close: bool,
    /// Jobs with these numbers that are not out are given back.
    pub withdraw: Vec<Range<u64>>,
    /// Other ceilings, and whether these may be raised too.
    pub budget: Option<(Ceilings, bool)>,
}

#[derive(Default)]
pub struct Shared {
    pub inboxes: Vec<Inbox>,
    pub outbox: Outbox,
    pub streams: Arc<Ready>,
    /// Wakes the engine's thread.
    pub wake: Arc<Notify>,
    pub orders: Mutex<Orders>,
    pub metrics: Mutex<Metrics>,
    pub fault: Mutex<Option<String>>,
    /// Sent and not yet durable.
    pub in_doubt: AtomicUsize,
    /// Waiting for an equal request, or on their way to the writer without having been sent.
    pub found: AtomicUsize,
    pub offered: AtomicU64,
    pub polled: AtomicU64,
    pub finished: AtomicBool,
    /// A request waits until the budget is raised.
    pub short: AtomicBool,
}

impl Shared {
    pub fn new(lanes: usize) -> Arc<Self> {
        let wake = Arc::new(Notify::new());
        let streams = Arc::new(Ready::new(wake.clone()));
        Arc::new(Shared { inboxes: (0..lanes).map(|_| Inbox::default()).collect(), wake, streams, ..Shared::default() })
    }

    /// So many outcomes wait to be written or polled that no new request should be taken.
    pub fn crowded(&self) -> bool {
        self.outbox.full() || self.found.load(Ordering::Acquire) >= FOUND
    }

    /// The engine was told to end.
    pub fn closed(&self) -> bool {
        lock(&self.orders).close
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
