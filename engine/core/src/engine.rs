//! The engine as its callers see it: offer requests, poll outcomes, from any thread.

use crate::cache::{Cache, FileLock};
use crate::config::{Ceilings, Config};
use crate::dispatcher::{self, Dispatcher};
use crate::http;
use crate::record::{flag, Api, Failure, Job, Kind, Outcome, Spent};
use crate::shape::{self, Prefix, Shape};
use crate::shared::{lock, Shared};
use crate::store::{self, Records};
use crate::stream::{self, Stream};
use crate::writer::{Order, Writer};
use bytes::Bytes;
use crossbeam_channel::Sender;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::BufRead;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Found in the cache and not yet written: more than this and callers wait.
const FOUND: usize = 4096;
/// Lines of a JSONL file that are offered at once.
const LINES: usize = 256;
/// Longest line of a JSONL file.
const LONGEST_LINE: usize = 16 << 20;

/// See the module.
pub struct Engine {
    config: Config,
    shared: Arc<Shared>,
    orders: Sender<Order>,
    shapes: RwLock<Vec<Arc<Shape>>>,
    /// How many streams there were.
    streamed: AtomicU64,
    lookup: Arc<Lookup>,
    reader: Mutex<Option<Records>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<FileLock>>,
}

/// Answers that are there already: of this run, of other runs.
struct Lookup {
    /// Only when the run had replies at its start.
    own: Mutex<Option<Records>>,
    cache: Option<Arc<Mutex<Cache>>>,
    resumes: bool,
    lanes: Vec<String>,
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
            if let Some(found) = lock(cache).find(key)? {
                return Ok(Some(store::outcome_of(found, id, *key, lane, flag::CACHED)));
            }
        }
        Ok(None)
    }
}

/// An outcome that is there already; how its reply is read, and how long its request was.
type Known = (Outcome, Api, usize);

/// A request that is offered: filled by a shape, or a body of its own.
struct Offer {
    id: u64,
    lane: usize,
    route: Arc<crate::record::Route>,
    filled: Result<(Vec<u8>, crate::json::Key, u64), String>,
    salt: u64,
}

impl Engine {
    /// Open the files and start the threads. The error is a sentence.
    pub fn start(config: Config) -> Result<Self, String> {
        http::raise_open_files();
        let names: Vec<String> = config.lanes.iter().map(|lane| lane.name.clone()).collect();
        let file_lock = match &config.records {
            Some(path) => Some(FileLock::take(path)?.ok_or_else(|| format!("{path}: another process is working on this run"))?),
            None => None,
        };
        let records = config.records.as_deref().map(|path| Records::create(path, &names)).transpose()?;
        let (spent, resumes) = match &records {
            Some(records) => (records.spent()?, records.some_replies()?),
            None => (Spent::default(), false),
        };
        let open = |path: &str| Records::read(path);
        let own = config.records.as_deref().filter(|_| resumes).map(open).transpose()?;
        let reader = config.records.as_deref().map(open).transpose()?;
        let cache = match &config.cache {
            Some(path) => Some(Arc::new(Mutex::new(Cache::open(path, config.records.as_deref())?))),
            None => None,
        };
        let shared = Shared::new(config.lanes.len());
        let (orders, inbox) = crossbeam_channel::unbounded();
        let writer =
            Writer { shared: shared.clone(), orders: inbox, path: config.records.clone(), records, cache: cache.clone(), missed: false };
        let writer = spawn("wordmill-writer", &shared, move || writer.run())?;
        let mut threads = Vec::new();
        let (ready, started) = std::sync::mpsc::channel();
        {
            let (config, in_shared, orders) = (config.clone(), shared.clone(), orders.clone());
            threads.push(spawn("wordmill-engine", &shared, move || {
                dispatcher::run(
                    || Dispatcher::new(&config, in_shared, orders, spent),
                    // The starter waits for it, unless it was killed.
                    |result| drop(ready.send(result)),
                );
            })?);
        }
        let engine = Engine {
            lookup: Arc::new(Lookup { own: Mutex::new(own), cache, resumes, lanes: names }),
            config,
            shared,
            orders,
            shapes: RwLock::default(),
            streamed: AtomicU64::new(0),
            reader: Mutex::new(reader),
            threads: Mutex::new(threads),
            writer: Mutex::new(Some(writer)),
            lock: Mutex::new(file_lock),
        };
        started.recv().unwrap_or_else(|_| Err(engine.fault().unwrap_or_else(|| "the engine's thread did not start".into())))?;
        Ok(engine)
    }

    /// Why the engine cannot go on.
    pub fn fault(&self) -> Option<String> {
        lock(&self.shared.fault).clone()
    }

    fn check(&self) -> Result<(), String> {
        self.fault().map_or(Ok(()), Err)
    }

    fn lane(&self, name: &str) -> Result<usize, String> {
        self.config.position(name).ok_or_else(|| format!("there is no lane {name:?}"))
    }

    /// What stands before every body that goes to this path of a lane, in keys.
    fn prefix(&self, lane: usize, path: &str) -> Prefix {
        Prefix::new(&self.config.owner, self.config.lanes[lane].place(), path)
    }

    pub fn lane_name(&self, index: usize) -> &str {
        &self.config.lanes[index].name
    }

    /// Register a body with slots; its number.
    pub fn shape(&self, lane: &str, path: &str, body: &str) -> Result<usize, String> {
        let index = self.lane(lane)?;
        let shape = Shape::new(&self.config.owner, &self.config.lanes[index], index, path, body)?;
        let mut shapes = self.shapes.write().unwrap_or_else(|e| e.into_inner());
        shapes.push(Arc::new(shape));
        Ok(shapes.len() - 1)
    }

    /// How many texts each request of a shape carries.
    pub fn slots(&self, shape: usize) -> Result<usize, String> {
        self.known(shape).map(|shape| shape.slots)
    }

    fn known(&self, shape: usize) -> Result<Arc<Shape>, String> {
        let shapes = self.shapes.read().unwrap_or_else(|e| e.into_inner());
        shapes.get(shape).cloned().ok_or_else(|| format!("there is no shape {shape}"))
    }

    /// Offer requests of one shape; how many were taken, from the front. A text that is None could
    /// not be read as text: that request fails as `bad_request`.
    pub fn submit(&self, shape: usize, ids: &[u64], texts: &[Option<&str>], salts: &[u64], timeout: Duration) -> Result<usize, String> {
        let shape = self.known(shape)?;
        if texts.len() != ids.len() * shape.slots || salts.len() != ids.len() {
            return Err(format!(
                "{} requests of {} slots need as many texts and salts: {} and {} came",
                ids.len(),
                shape.slots,
                texts.len(),
                salts.len()
            ));
        }
        self.offer(shape.lane, ids.len(), timeout, |n| {
            let own = &texts[n * shape.slots..(n + 1) * shape.slots];
            let filled = if own.iter().all(Option::is_some) {
                let (body, key) = shape.fill(own.iter().map(|text| text.unwrap_or_default()), salts[n]);
                Ok((body, key, shape.bound))
            } else {
                Err("the prompt holds half of a surrogate pair, which is no text".into())
            };
            Offer { id: ids[n], lane: shape.lane, route: shape.route.clone(), filled, salt: salts[n] }
        })
    }

    /// Offer whole bodies.
    pub fn submit_bodies(
        &self,
        lane: &str,
        path: &str,
        ids: &[u64],
        bodies: &[&[u8]],
        salts: &[u64],
        timeout: Duration,
    ) -> Result<usize, String> {
        let index = self.lane(lane)?;
        if bodies.len() != ids.len() || salts.len() != ids.len() {
            return Err(format!("{} requests, {} bodies and {} salts came", ids.len(), bodies.len(), salts.len()));
        }
        let route = dispatcher::route(path);
        let prefix = self.prefix(index, path);
        self.offer(index, ids.len(), timeout, |n| {
            let filled = shape::whole(&prefix, &self.config.lanes[index], bodies[n], salts[n]);
            Offer { id: ids[n], lane: index, route: route.clone(), filled, salt: salts[n] }
        })
    }

    fn offer(&self, lane: usize, count: usize, timeout: Duration, make: impl Fn(usize) -> Offer) -> Result<usize, String> {
        self.check()?;
        if self.shared.finished.load(Ordering::Acquire) {
            return Err("no request can be offered after finish()".into());
        }
        let until = Instant::now() + timeout;
        let open = || !self.shared.failed() && !lock(&self.shared.orders).close;
        let mut taken = 0;
        while taken < count {
            if self.shared.found.load(Ordering::Acquire) >= FOUND {
                if Instant::now() >= until || !open() {
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

    fn answer(&self, answered: Vec<Known>) -> Result<(), String> {
        let (resumed, others): (Vec<_>, Vec<_>) = answered.into_iter().partition(|(outcome, _, _)| outcome.flags & flag::RESUMED != 0);
        if !resumed.is_empty() {
            lock(&self.shared.metrics).resumed += resumed.len() as u64;
            lock(&self.shared.metrics).done += resumed.len() as u64;
            // Durable already: straight to who asked. Never full: the caller polls between its offers.
            self.shared.outbox.put(resumed.into_iter().map(|(outcome, _, _)| outcome), || false);
        }
        for (outcome, api, sent) in others {
            if outcome.flags & flag::CACHED != 0 {
                self.shared.found.fetch_add(1, Ordering::AcqRel);
            }
            self.order(Order::Record(Box::new(outcome), api, sent))?;
        }
        Ok(())
    }

    fn order(&self, order: Order) -> Result<(), String> {
        self.orders.send(order).map_err(|_| self.fault().unwrap_or_else(|| "the engine is closed".into()))
    }

    /// Feed a JSONL file from a thread; ids are line numbers from 0.
    pub fn submit_jsonl(self: &Arc<Self>, lane: &str, path: &str, file: &str) -> Result<(), String> {
        let index = self.lane(lane)?;
        let opened = std::fs::File::open(file).map_err(|error| format!("{file}: {error}"))?;
        let (engine, path, file) = (Arc::downgrade(self), path.to_string(), file.to_string());
        let shared = self.shared.clone();
        let feeder = spawn("wordmill-source", &self.shared, move || {
            let mut source = JsonLines { reader: std::io::BufReader::with_capacity(1 << 16, opened), number: 0, file };
            loop {
                let lines = match source.next(LINES) {
                    Ok(lines) => lines,
                    Err(words) => return shared.fail(words),
                };
                let Some(engine) = engine.upgrade() else { return };
                if lines.is_empty() {
                    return engine.finish();
                }
                if let Err(words) = engine.feed(index, &path, &lines) {
                    return shared.fail(words);
                }
                if lock(&shared.orders).close {
                    return;
                }
            }
        })?;
        lock(&self.threads).push(feeder);
        Ok(())
    }

    fn feed(&self, lane: usize, path: &str, lines: &[(u64, Vec<u8>)]) -> Result<(), String> {
        let route = dispatcher::route(path);
        let prefix = self.prefix(lane, path);
        let mut fed = 0;
        while fed < lines.len() && !lock(&self.shared.orders).close {
            fed += self.offer(lane, lines.len() - fed, Duration::from_millis(100), |n| {
                let (id, line) = &lines[fed + n];
                let filled = shape::line(&prefix, &self.config.lanes[lane], line);
                Offer { id: *id, lane, route: route.clone(), filled, salt: 0 }
            })?;
        }
        Ok(())
    }

    /// No more requests will be offered.
    pub fn finish(&self) {
        self.shared.finished.store(true, Ordering::Release);
        self.shared.outbox.wake();
    }

    pub fn idle(&self) -> bool {
        self.shared.idle()
    }

    /// Durable outcomes: see `_engine.pyi`.
    pub fn poll(&self, limit: usize, timeout: Duration, linger: Duration) -> Result<Vec<Outcome>, String> {
        let taken = self.shared.outbox.take(limit.max(1), timeout, linger, || self.shared.failed() || self.shared.idle());
        self.shared.polled.fetch_add(taken.len() as u64, Ordering::AcqRel);
        if taken.is_empty() {
            self.check()?;
        }
        Ok(taken)
    }

    #[cfg(unix)]
    pub fn descriptor(&self) -> Result<i32, String> {
        self.shared.outbox.descriptor().map_err(|error| format!("no file descriptor is left: {error}"))
    }

    /// Send one request with `stream: true`, or `whole`: as it is, its answer in one piece.
    pub fn stream(&self, lane: &str, path: &str, body: &[u8], salt: u64, whole: bool) -> Result<Stream, String> {
        self.check()?;
        let index = self.lane(lane)?;
        let (body, key, bound) = shape::whole(&self.prefix(index, path), &self.config.lanes[index], body, salt)?;
        let (feed, stream) = stream::pair(self.streamed.fetch_add(1, Ordering::Relaxed), whole, self.shared.streams.clone());
        let mut job = job(0, key, index, dispatcher::route(path), body, bound);
        job.stream = Some(feed);
        self.shared.inboxes[index].put([job].into());
        self.shared.wake.notify_one();
        Ok(stream)
    }

    /// Numbers of the streams that have something new since they were last read.
    pub fn ready(&self) -> Result<Vec<u64>, String> {
        let ready = self.shared.streams.take();
        if ready.is_empty() {
            self.check()?;
        }
        Ok(ready)
    }

    #[cfg(unix)]
    pub fn stream_descriptor(&self) -> Result<i32, String> {
        self.shared.streams.descriptor().map_err(|error| format!("no file descriptor is left: {error}"))
    }

    /// Store finished rows; durable when `sync_rows` returns.
    pub fn keep_rows(&self, rows: Vec<(i64, Vec<u8>)>) -> Result<(), String> {
        self.check()?;
        self.order(Order::Rows(rows))
    }

    pub fn sync_rows(&self) -> Result<(), String> {
        let (answer, done) = crossbeam_channel::bounded(1);
        self.order(Order::Sync(answer))?;
        done.recv().map_err(|_| self.fault().unwrap_or_else(|| "the engine is closed".into()))
    }

    fn with_reader<T>(&self, read: impl FnOnce(&Records) -> Result<T, String>) -> Result<T, String> {
        match lock(&self.reader).as_ref() {
            Some(records) => read(records),
            None => Err("this engine keeps no records".into()),
        }
    }

    pub fn rows(&self, low: i64, high: i64) -> Result<Vec<(i64, Vec<u8>)>, String> {
        self.sync_rows()?;
        self.with_reader(|records| records.rows(low, high))
    }

    pub fn row_numbers(&self) -> Result<Vec<i64>, String> {
        self.with_reader(Records::row_numbers)
    }

    pub fn metrics(&self) -> Value {
        let mut metrics = lock(&self.shared.metrics).clone();
        for (lane, inbox) in metrics.lanes.iter_mut().zip(&self.shared.inboxes) {
            lane.1.queued += inbox.len();
        }
        metrics.to_json()
    }

    /// Send nothing more; cut what is still out after `grace`.
    pub fn cancel(&self, grace: Duration) {
        lock(&self.shared.orders).cancel = Some(Instant::now() + grace);
        self.shared.wake.notify_one();
    }

    pub fn raise_budget(&self, ceilings: Ceilings) {
        lock(&self.shared.orders).ceilings = Some(ceilings);
        self.shared.wake.notify_one();
    }

    /// Stop at once; what is durable stays.
    pub fn close(&self) {
        lock(&self.shared.orders).close = true;
        self.shared.wake.notify_one();
        self.shared.outbox.wake();
        let me = std::thread::current().id();
        let threads: Vec<_> = lock(&self.threads).drain(..).collect();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != me) {
            // A thread that panicked has said so in `fault`.
            let _ = thread.join();
        }
        // Last, so that what the others still sent becomes durable. It may have ended by itself.
        let _ = self.orders.send(Order::Close);
        if let Some(writer) = lock(&self.writer).take() {
            let _ = writer.join();
        }
        lock(&self.reader).take();
        lock(&self.lookup.own).take();
        lock(&self.lock).take();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

fn job(id: u64, key: crate::json::Key, lane: usize, route: Arc<crate::record::Route>, body: Vec<u8>, bound: u64) -> Box<Job> {
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
        last: None,
        stream: None,
    })
}

/// A named thread whose panic becomes a fault with words.
fn spawn(name: &str, shared: &Arc<Shared>, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let (shared, thread) = (shared.clone(), name.to_string());
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                let words = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                shared.fail(format!("{thread} panicked: {}", words.unwrap_or_default()));
            }
        })
        .map_err(|error| format!("{name}: {error}"))
}

/// A JSONL file, some lines at a time.
struct JsonLines<R> {
    reader: R,
    number: u64,
    file: String,
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
