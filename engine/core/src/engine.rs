//! The engine as its callers see it: offer requests, poll outcomes, from any thread.

use crate::cache::{Cache, FileLock};
use crate::commons::Commons;
use crate::config::{Ceilings, Config};
use crate::dispatcher::{self, Dispatcher};
use crate::offer::{job, Door, JsonLines, Lookup, Offer};
use crate::record::{Outcome, Spent};
use crate::shape::{self, Shape};
use crate::shared::{lock, panic_words, Shared};
use crate::store::Records;
use crate::stream::{self, Stream};
use crate::writer::{Order, Writer};
use serde_json::Value;
use std::ops::Range;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// See the module.
pub struct Engine {
    door: Arc<Door>,
    shared: Arc<Shared>,
    commons: Arc<Commons>,
    shapes: RwLock<Vec<Arc<Shape>>>,
    /// How many streams there were.
    streamed: AtomicU64,
    reader: Mutex<Option<Records>>,
    engine: Mutex<Option<JoinHandle<()>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<FileLock>>,
    /// It was closed, and all that it had to say is said.
    over: AtomicBool,
}

impl Engine {
    /// Open the files and start the threads; limits are shared within this process. The error is a sentence.
    pub fn start(config: Config) -> Result<Self, String> {
        if config.shared.is_some() {
            return Err("engine configuration: `shared` needs an engine that can reach other processes".into());
        }
        Self::start_in(config, Commons::process())
    }

    /// The same, where limits and answers are shared in `commons`.
    pub fn start_in(config: Config, commons: Arc<Commons>) -> Result<Self, String> {
        crate::system::raise_open_files();
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
            Some(path) => Some(Arc::new(Mutex::new(Some(Cache::open(path, config.records.as_deref())?)))),
            None => None,
        };
        let shared = Shared::new(config.lanes.len());
        let answers = commons.answers.clone().filter(|_| config.shared.as_ref().is_some_and(|shared| shared.answers));
        let (orders, inbox) = crossbeam_channel::unbounded();
        let writer = Writer {
            shared: shared.clone(),
            orders: inbox,
            path: config.records.clone(),
            records,
            cache: cache.clone(),
            answers: answers.clone(),
            missed: false,
            whole: config.whole,
        };
        let writer = spawn("wordmill-writer", &shared, move || writer.run())?;
        let (ready, started) = std::sync::mpsc::channel();
        let thread = {
            let (config, commons, in_shared, orders) = (config.clone(), commons.clone(), shared.clone(), orders.clone());
            spawn("wordmill-engine", &shared, move || {
                dispatcher::run(
                    || Dispatcher::new(&config, &commons, in_shared, orders, spent),
                    // The starter waits for it, unless it was killed.
                    |result| drop(ready.send(result)),
                );
            })?
        };
        let lookup = Lookup { own: Mutex::new(own), cache, answers, resumes, lanes: names };
        let engine = Engine {
            door: Arc::new(Door { config, shared: shared.clone(), orders, lookup }),
            shared,
            commons,
            shapes: RwLock::default(),
            streamed: AtomicU64::new(0),
            reader: Mutex::new(reader),
            engine: Mutex::new(Some(thread)),
            writer: Mutex::new(Some(writer)),
            lock: Mutex::new(file_lock),
            over: AtomicBool::new(false),
        };
        started.recv().unwrap_or_else(|_| Err(engine.fault().unwrap_or_else(|| "the engine's thread did not start".into())))?;
        Ok(engine)
    }

    /// Why the engine cannot go on.
    pub fn fault(&self) -> Option<String> {
        self.door.fault()
    }

    pub fn lane_name(&self, index: usize) -> &str {
        &self.door.config.lanes[index].name
    }

    /// Register a body with slots; its number.
    pub fn shape(&self, lane: &str, path: &str, body: &str) -> Result<usize, String> {
        let index = self.door.lane(lane)?;
        let config = &self.door.config;
        let shape = Shape::new(&config.owner, &config.lanes[index], index, path, body)?;
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
        self.door.offer(shape.lane, ids.len(), timeout, |n| {
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
        let index = self.door.lane(lane)?;
        if bodies.len() != ids.len() || salts.len() != ids.len() {
            return Err(format!("{} requests, {} bodies and {} salts came", ids.len(), bodies.len(), salts.len()));
        }
        let route = dispatcher::route(path);
        let prefix = self.door.prefix(index, path);
        self.door.offer(index, ids.len(), timeout, |n| {
            let filled = shape::whole(&prefix, &self.door.config.lanes[index], bodies[n], salts[n]);
            Offer { id: ids[n], lane: index, route: route.clone(), filled, salt: salts[n] }
        })
    }

    /// Feed a JSONL file from a thread; ids are line numbers from 0.
    pub fn submit_jsonl(&self, lane: &str, path: &str, file: &str) -> Result<(), String> {
        let lane = self.door.lane(lane)?;
        let lines = JsonLines::open(file)?;
        let (door, path) = (self.door.clone(), path.to_string());
        // Not joined when the engine is closed: it may be waiting for a line. It keeps no engine alive.
        spawn("wordmill-source", &self.shared, move || door.feed(lane, &path, lines)).map(drop)
    }

    /// No more requests will be offered.
    pub fn finish(&self) {
        self.door.finish();
    }

    pub fn idle(&self) -> bool {
        self.shared.idle()
    }

    /// Durable outcomes: see `_engine.pyi`.
    pub fn poll(&self, limit: usize, timeout: Duration, linger: Duration) -> Result<Vec<Outcome>, String> {
        let ended = || self.gone().is_some() || self.shared.idle();
        let (taken, room) = self.shared.outbox.take(limit.max(1), timeout, linger, ended);
        if room {
            self.shared.wake.notify_one();
        }
        self.shared.polled.fetch_add(taken.len() as u64, Ordering::AcqRel);
        if taken.is_empty() {
            self.door.check()?;
            if !self.shared.idle() {
                return self.gone().map_or(Ok(taken), Err);
            }
        }
        Ok(taken)
    }

    #[cfg(unix)]
    pub fn descriptor(&self) -> Result<i32, String> {
        self.shared.outbox.descriptor().map_err(|error| format!("no file descriptor is left: {error}"))
    }

    /// Send one request with `stream: true`, or `whole`: as it is, its answer in one piece.
    pub fn stream(&self, lane: &str, path: &str, body: &[u8], salt: u64, whole: bool) -> Result<Stream, String> {
        self.door.check()?;
        let index = self.door.lane(lane)?;
        let (body, key, bound) = shape::whole(&self.door.prefix(index, path), &self.door.config.lanes[index], body, salt)?;
        let (feed, stream) = stream::pair(self.streamed.fetch_add(1, Ordering::Relaxed), whole, self.shared.streams.clone());
        let mut job = job(0, key, index, dispatcher::route(path), body, bound);
        job.stream = Some(feed);
        {
            // Under the lock: what comes before the end is ended with the others.
            let orders = lock(&self.shared.orders);
            if orders.close {
                return Err("the engine is closed".into());
            }
            self.shared.inboxes[index].put_stream(job);
        }
        self.shared.wake.notify_one();
        Ok(stream)
    }

    /// Numbers of the streams that have something new since they were last read.
    pub fn ready(&self) -> Result<Vec<u64>, String> {
        let ready = self.shared.streams.take();
        if ready.is_empty() {
            self.door.check()?;
        }
        Ok(ready)
    }

    #[cfg(unix)]
    pub fn stream_descriptor(&self) -> Result<i32, String> {
        self.shared.streams.descriptor().map_err(|error| format!("no file descriptor is left: {error}"))
    }

    /// Store finished rows; durable when `sync_rows` returns.
    pub fn keep_rows(&self, rows: Vec<(i64, Vec<u8>)>) -> Result<(), String> {
        self.door.check()?;
        self.door.order(Order::Rows(rows))
    }

    pub fn sync_rows(&self) -> Result<(), String> {
        let (answer, done) = crossbeam_channel::bounded(1);
        self.door.order(Order::Sync(answer))?;
        done.recv().map_err(|_| self.fault().unwrap_or_else(|| "the engine is closed".into()))
    }

    fn with_reader<T>(&self, read: impl FnOnce(&Records) -> Result<T, String>) -> Result<T, String> {
        match lock(&self.reader).as_ref() {
            Some(records) => read(records),
            None if self.shared.closed() => Err("the engine is closed".into()),
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
        let mut metrics = metrics.to_json();
        metrics["shared"] = self.commons.link.as_ref().map_or(Value::Null, |link| link.state());
        metrics
    }

    /// Give back what has these numbers and is not out just now: it ends as cancelled.
    pub fn withdraw(&self, ids: Range<u64>) {
        lock(&self.shared.orders).withdraw.push(ids);
        self.shared.wake.notify_one();
    }

    /// Other ceilings from now on, of all that this engine spends; open: these may be raised too.
    pub fn allow(&self, ceilings: Ceilings, open: bool) {
        lock(&self.shared.orders).budget = Some((ceilings, open));
        self.shared.wake.notify_one();
    }

    /// Whether a request waits for higher ceilings.
    pub fn short(&self) -> bool {
        self.shared.short.load(Ordering::Acquire)
    }

    /// Send nothing more; cut what is still out after `grace`.
    pub fn cancel(&self, grace: Duration) {
        lock(&self.shared.orders).cancel = Some(Instant::now() + grace);
        self.shared.wake.notify_one();
    }

    /// Stop at once; what is durable stays.
    pub fn close(&self) {
        lock(&self.shared.orders).close = true;
        self.shared.wake.notify_one();
        self.shared.outbox.wake();
        // Held to the end: who closes it at the same time waits until it is closed.
        let mut engine = lock(&self.engine);
        if let Some(thread) = engine.take() {
            // A thread that panicked has said so in `fault`.
            let _ = thread.join();
        }
        // The writer closes the records file last: only then the replies leave its write-ahead log.
        lock(&self.reader).take();
        self.door.release();
        // After the others, so that what they still sent becomes durable. It may have ended by itself.
        let _ = self.door.order(Order::Close);
        if let Some(writer) = lock(&self.writer).take() {
            let _ = writer.join();
        }
        self.door.close_cache();
        if let Some(answers) = &self.door.lookup.answers {
            answers.flush();
        }
        lock(&self.lock).take();
        self.over.store(true, Ordering::Release);
        self.shared.outbox.wake();
    }

    /// Why nothing more will come: a fault, or it was closed.
    pub fn gone(&self) -> Option<String> {
        self.fault().or_else(|| self.over.load(Ordering::Acquire).then(|| "the engine is closed".into()))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// A named thread whose panic becomes a fault with words.
fn spawn(name: &str, shared: &Arc<Shared>, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let (shared, thread) = (shared.clone(), name.to_string());
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                shared.fail(format!("{thread} panicked: {}", panic_words(&*panic)));
            }
        })
        .map_err(|error| format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_a_fault_with_its_words() {
        let shared = Shared::new(1);
        spawn("wordmill-test", &shared, || panic!("number {}", 7)).unwrap().join().unwrap();
        assert_eq!(lock(&shared.fault).as_deref(), Some("wordmill-test panicked: number 7"));
    }
}
