//! The writing thread: outcomes become durable in batches, and only then are they reported.

use crate::cache::{Cache, SharedCache, BATCH};
use crate::commons::{Answer, Answers};
use crate::json::Key;
use crate::record::{flag, Api, Outcome, Spent};
use crate::shared::{lock, Shared};
use crate::store::{self, Records};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the writer is told.
pub enum Order {
    /// An outcome, how its body is read, and how many bytes its request had.
    Record(Box<Outcome>, Api, usize),
    /// The answer of request `source` for another one that asked the same.
    Copy {
        source: u64,
        outcome: Box<Outcome>,
        api: Api,
        sent: usize,
    },
    Rows(Vec<(i64, Vec<u8>)>),
    /// What the earlier attempts of a request cost that is still under way.
    Spent(Spent),
    /// Answer when all before it is durable.
    Sync(Sender<()>),
    Close,
}

const MOST: usize = 4096;
/// Wait this long for more before a small batch is committed, in naps: a thread that waits for the
/// next record would have to be woken, by a system call, for each of them. Each nap is twice as
/// long as the one before.
const LINGER: Duration = Duration::from_millis(8);
const NAP: Duration = Duration::from_micros(400);
const SMALL: usize = 768;
/// What was spent on requests that are under way is written at least this often.
const SPENT_EVERY: Duration = Duration::from_millis(500);
/// The cache learns of new replies at least this often.
const INDEX_EVERY: Duration = Duration::from_secs(2);

pub struct Writer {
    pub shared: Arc<Shared>,
    pub orders: Receiver<Order>,
    pub path: Option<String>,
    pub records: Option<Records>,
    pub cache: Option<SharedCache>,
    pub answers: Option<Arc<dyn Answers>>,
    /// The cache could not take some of our replies: it must read the file again.
    pub missed: bool,
    /// Replies are handed on as they were sent.
    pub whole: bool,
}

/// What others need to know of it.
fn answer(outcome: &Outcome, api: Api, sent: usize) -> Answer {
    let sent = u32::try_from(sent).unwrap_or(u32::MAX);
    Answer { api, sent, flags: outcome.flags, attempts: outcome.attempts, micros: outcome.micros, body: outcome.raw.clone() }
}

struct Batch {
    outcomes: Vec<(Outcome, Api, usize)>,
    rows: Vec<(i64, Vec<u8>)>,
    syncs: Vec<Sender<()>>,
    spent: Spent,
    /// When there was the last commit.
    written: Instant,
    closing: bool,
}

impl Batch {
    fn due(&self) -> bool {
        let work = !(self.outcomes.is_empty() && self.rows.is_empty() && self.syncs.is_empty());
        work || self.closing || (self.spent != Spent::default() && self.written.elapsed() >= SPENT_EVERY)
    }
}

impl Writer {
    pub fn run(mut self) {
        let mut index: Vec<(Key, u64)> = Vec::new();
        let mut indexed = Instant::now();
        let mut batch = Batch {
            outcomes: Vec::with_capacity(MOST),
            rows: Vec::new(),
            syncs: Vec::new(),
            spent: Spent::default(),
            written: Instant::now(),
            closing: false,
        };
        loop {
            match self.orders.recv_timeout(if batch.spent == Spent::default() { INDEX_EVERY } else { SPENT_EVERY }) {
                Ok(order) => {
                    self.take(order, &mut batch);
                    self.gather(&mut batch);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => batch.closing = true,
            }
            if !batch.due() {
                if indexed.elapsed() >= INDEX_EVERY {
                    self.index(&mut index);
                    indexed = Instant::now();
                }
                continue;
            }
            if let Err(words) = self.commit(&mut batch, &mut index) {
                self.shared.fail(words);
                return;
            }
            if index.len() >= BATCH || indexed.elapsed() >= INDEX_EVERY {
                self.index(&mut index);
                indexed = Instant::now();
            }
            if batch.closing {
                self.index(&mut index);
                self.finish();
                return;
            }
        }
    }

    fn take(&mut self, order: Order, batch: &mut Batch) {
        match order {
            Order::Record(outcome, api, sent) => batch.outcomes.push((*outcome, api, sent)),
            Order::Copy { source, outcome, api, sent } => batch.outcomes.push((self.copy(source, *outcome, batch), api, sent)),
            Order::Rows(rows) => batch.rows.extend(rows),
            Order::Spent(spent) => batch.spent.add(&spent),
            Order::Sync(answer) => batch.syncs.push(answer),
            Order::Close => batch.closing = true,
        }
    }

    /// More of what waits, for as long as it is worth it.
    fn gather(&mut self, batch: &mut Batch) {
        let until = Instant::now() + LINGER;
        let mut nap = NAP;
        while batch.outcomes.len() < MOST && !batch.closing && batch.syncs.is_empty() {
            let order = match self.orders.try_recv() {
                Ok(order) => order,
                Err(_) => {
                    // Nothing else is under way, or the batch is worth a commit: do not wait.
                    let under_way = self.shared.in_doubt.load(Ordering::Acquire) + self.shared.found.load(Ordering::Acquire);
                    let left = until.saturating_duration_since(Instant::now());
                    if batch.outcomes.len() >= SMALL || under_way <= batch.outcomes.len() || left.is_zero() {
                        return;
                    }
                    std::thread::sleep(nap.min(left));
                    nap *= 2;
                    continue;
                }
            };
            self.take(order, batch);
        }
    }

    fn copy(&self, source: u64, outcome: Outcome, batch: &Batch) -> Outcome {
        if let Some((found, _, _)) = batch.outcomes.iter().rev().find(|(other, _, _)| other.id == source) {
            return found.copy_for(outcome.id, flag::JOINED);
        }
        let found = self.records.as_ref().and_then(|records| records.find(source, &outcome.key).ok().flatten());
        match found {
            Some(found) => store::outcome_of(found, outcome.id, outcome.key, outcome.lane, flag::JOINED),
            None => outcome,
        }
    }

    fn commit(&mut self, batch: &mut Batch, index: &mut Vec<(Key, u64)>) -> Result<(), String> {
        if let Some(records) = &mut self.records {
            let path = self.path.as_deref().unwrap_or_default();
            records.commit(&batch.outcomes, &batch.rows, batch.spent).map_err(|error| store::fault(path, error))?;
        }
        batch.rows.clear();
        batch.written = Instant::now();
        let spent = std::mem::take(&mut batch.spent);
        for answer in batch.syncs.drain(..) {
            // Who asked may have gone.
            let _ = answer.send(());
        }
        let (mut held, mut found) = (0, 0);
        {
            let mut metrics = lock(&self.shared.metrics);
            metrics.spent.add(&spent);
            metrics.spent_ever.add(&spent);
            for (outcome, api, sent) in &batch.outcomes {
                let fresh = outcome.flags & (flag::CACHED | flag::JOINED | flag::RESUMED | flag::FALLBACK) == 0;
                if outcome.held {
                    held += 1;
                } else {
                    found += 1;
                }
                match &outcome.result {
                    Ok(_) => {
                        metrics.done += 1;
                        let lasting = fresh && outcome.stream.is_none();
                        if lasting && self.cache.is_some() && self.records.is_some() {
                            index.push((outcome.key, outcome.id));
                        }
                        if let Some(answers) = self.answers.as_ref().filter(|_| lasting) {
                            answers.keep(&outcome.key, answer(outcome, *api, *sent));
                        }
                    }
                    Err(failure) => *metrics.failed.entry(failure.kind).or_default() += 1,
                }
                metrics.joined += u64::from(outcome.flags & flag::JOINED != 0);
                metrics.cached += u64::from(outcome.flags & flag::CACHED != 0);
                metrics.spent.add(&outcome.owed);
                metrics.spent_ever.add(&outcome.owed);
            }
        }
        let shared = &self.shared;
        let (streams, plain): (Vec<_>, Vec<_>) =
            batch.outcomes.drain(..).map(|(outcome, _, _)| outcome).partition(|outcome| outcome.stream.is_some());
        for mut outcome in streams {
            if let Some(feed) = outcome.stream.take() {
                feed.end(outcome);
            }
        }
        let plain = plain.into_iter().map(|mut outcome| {
            // Otherwise only what holds more than its text is handed on whole.
            if !self.whole && !outcome.result.as_ref().is_ok_and(|reply| reply.rich) {
                outcome.raw = bytes::Bytes::new();
            }
            outcome
        });
        shared.outbox.put(plain);
        // Only now: somewhere they are always counted.
        self.shared.in_doubt.fetch_sub(held, Ordering::AcqRel);
        self.shared.found.fetch_sub(found, Ordering::AcqRel);
        if held + found > 0 {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// The cache may be busy or gone: then it learns of these replies when it is next opened.
    fn index(&mut self, index: &mut Vec<(Key, u64)>) {
        if let Some(cache) = &self.cache {
            if lock(cache).as_mut().is_some_and(|cache| cache.add(index).is_err()) {
                index.clear();
                self.missed = true;
            }
        }
    }

    fn finish(&self) {
        if let Some(cache) = self.cache.as_ref().filter(|_| !self.missed) {
            // Where this fails the file is not marked whole, and is read again.
            let _ = lock(cache).as_mut().map(Cache::whole);
        }
    }
}
