//! Where requests come in: what is known already is answered, the others wait in their lane's inbox.

use crate::cache::{Cache, SharedCache};
use crate::commons::Answers;
use crate::config::Config;
use crate::dispatcher;
use crate::json::Key;
use crate::record::{flag, Api, Failure, Job, Kind, Outcome, Route, Spent};
use crate::shape::{self, Prefix};
use crate::shared::{lock, Shared};
use crate::store::{self, Records};
use crate::writer::Order;
use bytes::Bytes;
use crossbeam_channel::Sender;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Lines of a JSONL file that are offered at once.
const LINES: usize = 256;
/// Longest line of a JSONL file.
const LONGEST_LINE: usize = 16 << 20;

/// Answers that are there already: of this run, of other runs.
pub struct Lookup {
    /// Only when the run had replies at its start.
    pub own: Mutex<Option<Records>>,
    pub cache: Option<SharedCache>,
    pub answers: Option<Arc<dyn Answers>>,
    pub resumes: bool,
    pub lanes: Vec<String>,
}

impl Lookup {
    fn find(&self, id: u64, key: &crate::json::Key, lane: usize) -> Result<Option<Outcome>, String> {
        if self.resumes {
            if let Some(found) = lock(&self.own).as_ref().map(|records| records.find(id, key)).transpose()?.flatten() {
                // A fallback may have answered: the record goes on saying so.
                let lane = self.lanes.iter().position(|name| *name == found.lane).unwrap_or(lane);
                return Ok(Some(store::outcome_of(found, id, *key, lane, flag::RESUMED)));
            }
        }
        if let Some(cache) = &self.cache {
            if let Some(found) = lock(cache).as_mut().and_then(|cache| cache.find(key)) {
                return Ok(Some(store::outcome_of(found, id, *key, lane, flag::CACHED)));
            }
        }
        Ok(None)
    }
}

/// An outcome that is there already; how its reply is read, and how long its request was.
type Known = (Outcome, Api, usize);

/// A request that is offered: filled by a shape, or a body of its own.
pub struct Offer {
    pub id: u64,
    pub lane: usize,
    pub route: Arc<Route>,
    pub filled: Result<(Vec<u8>, Key, u64), String>,
    pub salt: u64,
}

/// What a caller's thread, or one that reads a file, needs to offer requests.
pub struct Door {
    pub config: Config,
    pub shared: Arc<Shared>,
    pub orders: Sender<Order>,
    pub lookup: Lookup,
}

impl Door {
    /// Why the engine cannot go on.
    pub fn fault(&self) -> Option<String> {
        lock(&self.shared.fault).clone()
    }

    pub fn check(&self) -> Result<(), String> {
        self.fault().map_or(Ok(()), Err)
    }

    pub fn lane(&self, name: &str) -> Result<usize, String> {
        self.config.position(name).ok_or_else(|| format!("there is no lane {name:?}"))
    }

    /// What stands before every body that goes to this path of a lane, in keys.
    pub fn prefix(&self, lane: usize, path: &str) -> Prefix {
        Prefix::new(&self.config.owner, self.config.lanes[lane].place(), path)
    }

    /// No more requests will be offered.
    pub fn finish(&self) {
        self.shared.finished.store(true, Ordering::Release);
        self.shared.outbox.wake();
    }

    /// Close the files that answers were looked up in.
    pub fn release(&self) {
        lock(&self.lookup.own).take();
        if let Some(cache) = &self.lookup.cache {
            lock(cache).iter_mut().for_each(Cache::release);
        }
    }

    /// The writer has ended: the cache is needed no more.
    pub fn close_cache(&self) {
        if let Some(cache) = &self.lookup.cache {
            lock(cache).take();
        }
    }

    /// Offer requests of one lane; how many were taken, from the front.
    pub fn offer(&self, lane: usize, count: usize, timeout: Duration, make: impl Fn(usize) -> Offer) -> Result<usize, String> {
        self.check()?;
        if self.shared.closed() {
            return Err("the engine is closed".into());
        }
        if self.shared.finished.load(Ordering::Acquire) {
            return Err("no request can be offered after finish()".into());
        }
        let until = Instant::now() + timeout;
        let open = || !self.shared.failed() && !self.shared.closed();
        let mut taken = 0;
        while taken < count {
            if self.shared.crowded() {
                if taken > 0 || Instant::now() >= until || !open() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let room = self.shared.inboxes[lane].room(if taken == 0 { until } else { Instant::now() }, open).min(count - taken).min(LINES);
            if room == 0 {
                break;
            }
            let mut jobs = VecDeque::with_capacity(room);
            let mut answered = Vec::new();
            for n in taken..taken + room {
                match self.prepared(make(n))? {
                    Ok(job) => jobs.push_back(job),
                    Err(outcome) => answered.push(outcome),
                }
            }
            self.shared.offered.fetch_add(room as u64, Ordering::AcqRel);
            taken += room;
            self.ask_others(lane, &mut jobs, &mut answered);
            self.answer(answered)?;
            if !jobs.is_empty() {
                self.shared.inboxes[lane].put(jobs);
                self.shared.wake.notify_one();
            }
        }
        self.check()?;
        Ok(taken)
    }

    /// A job that must be sent, or an outcome that is there already.
    fn prepared(&self, offer: Offer) -> Result<Result<Box<Job>, Known>, String> {
        let Offer { id, lane, route, filled, salt } = offer;
        let (body, key, bound) = match filled {
            Ok(filled) => filled,
            Err(words) => {
                let job = job(id, [0; 16], lane, route, Vec::new(), 0);
                return Ok(Err((job.fail(Failure::new(Kind::BadRequest, words)), Api::Other, 0)));
            }
        };
        if let Some(outcome) = self.lookup.find(id, &key, lane)? {
            return Ok(Err((outcome, route.api, body.len())));
        }
        let mut job = job(id, key, lane, route, body, bound);
        job.shareable = salt == 0;
        Ok(Ok(job))
    }

    /// Of what must be sent, that which other processes have been answered.
    fn ask_others(&self, lane: usize, jobs: &mut VecDeque<Box<Job>>, answered: &mut Vec<Known>) {
        let Some(answers) = self.lookup.answers.as_ref().filter(|_| !jobs.is_empty()) else { return };
        let keys: Vec<Key> = jobs.iter().map(|job| job.key).collect();
        let mut found = answers.find(&keys).into_iter();
        let name = &self.lookup.lanes[lane];
        jobs.retain(|job| {
            let Some(found) = found.next().flatten().and_then(|answer| store::found(answer, name)) else { return true };
            answered.push((store::outcome_of(found, job.id, job.key, lane, flag::CACHED), job.route.api, job.body.len()));
            false
        });
    }

    fn answer(&self, answered: Vec<Known>) -> Result<(), String> {
        let (resumed, others): (Vec<_>, Vec<_>) = answered.into_iter().partition(|(outcome, _, _)| outcome.flags & flag::RESUMED != 0);
        if !resumed.is_empty() {
            lock(&self.shared.metrics).resumed += resumed.len() as u64;
            lock(&self.shared.metrics).done += resumed.len() as u64;
            // Durable already: straight to who asked.
            self.shared.outbox.put(resumed.into_iter().map(|(outcome, _, _)| outcome));
        }
        for (outcome, api, sent) in others {
            self.shared.found.fetch_add(1, Ordering::AcqRel);
            self.order(Order::Record(Box::new(outcome), api, sent))?;
        }
        Ok(())
    }

    pub fn order(&self, order: Order) -> Result<(), String> {
        self.orders.send(order).map_err(|_| self.fault().unwrap_or_else(|| "the engine is closed".into()))
    }

    /// Offer all lines of a file, until the engine is closed.
    pub fn feed(&self, lane: usize, path: &str, mut source: JsonLines<impl BufRead>) {
        let (route, prefix) = (dispatcher::route(path), self.prefix(lane, path));
        loop {
            let fed = source.next(LINES).and_then(|lines| self.lines(lane, &route, &prefix, &lines).map(|()| lines.is_empty()));
            if self.shared.closed() {
                return;
            }
            match fed {
                Ok(false) => {}
                Ok(true) => return self.finish(),
                Err(words) => return self.shared.fail(words),
            }
        }
    }

    fn lines(&self, lane: usize, route: &Arc<Route>, prefix: &Prefix, lines: &[(u64, Vec<u8>)]) -> Result<(), String> {
        let mut fed = 0;
        while fed < lines.len() && !self.shared.closed() {
            fed += self.offer(lane, lines.len() - fed, Duration::from_millis(100), |n| {
                let (id, line) = &lines[fed + n];
                let filled = shape::line(prefix, &self.config.lanes[lane], line);
                Offer { id: *id, lane, route: route.clone(), filled, salt: 0 }
            })?;
        }
        Ok(())
    }
}

/// A request on its way.
pub fn job(id: u64, key: Key, lane: usize, route: Arc<Route>, body: Vec<u8>, bound: u64) -> Box<Job> {
    Box::new(Job {
        id,
        key,
        lane,
        route,
        body: Bytes::from(body),
        shareable: false,
        leads: false,
        bound,
        attempts: 0,
        throttled: 0,
        flags: 0,
        began: None,
        spent: Spent::default(),
        owed: Spent::default(),
        last: None,
        stream: None,
    })
}

/// A JSONL file, some lines at a time.
pub struct JsonLines<R> {
    reader: R,
    number: u64,
    file: String,
}

impl JsonLines<BufReader<File>> {
    pub fn open(file: &str) -> Result<Self, String> {
        let opened = File::open(file).map_err(|error| format!("{file}: {error}"))?;
        Ok(JsonLines { reader: BufReader::with_capacity(1 << 16, opened), number: 0, file: file.into() })
    }
}

impl<R: BufRead> JsonLines<R> {
    /// Up to `most` lines that are not blank, with their numbers; none at the end.
    fn next(&mut self, most: usize) -> Result<Vec<(u64, Vec<u8>)>, String> {
        let mut lines = Vec::new();
        while lines.len() < most {
            let mut line = Vec::new();
            let read = std::io::Read::take(&mut self.reader, LONGEST_LINE as u64 + 1)
                .read_until(b'\n', &mut line)
                .map_err(|error| format!("{}: {error}", self.file))?;
            if read == 0 {
                break;
            }
            if line.len() > LONGEST_LINE {
                return Err(format!("{}: line {} is longer than {LONGEST_LINE} bytes", self.file, self.number + 1));
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                lines.push((self.number, line));
            }
            self.number += 1;
        }
        Ok(lines)
    }
}
