//! Answers in Redis: looked up on the thread of whoever offers requests, written by a thread of their own.

use crate::link::Facts;
use crate::server::{Server, PREFIX};
use crate::value::{decode, encode, MOST};
use crossbeam_channel::{Receiver, Sender};
use redis::{Connection, RedisResult, Value};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wordmill_core::commons::{Answer, Answers};
use wordmill_core::json::{hex, Key};

const PATIENCE: Duration = Duration::from_millis(250);
/// After a failure nobody asks for so long.
const REST: Duration = Duration::from_secs(1);
/// An answer is forgotten after so many seconds.
const KEPT: u64 = 7 * 86_400;
/// Asked for, and written, at once.
const AT_ONCE: usize = 64;
/// Waiting to be written.
const QUEUE: usize = 4096;
const QUEUE_BYTES: usize = 32 << 20;
/// An engine that ends waits so long for what is not written yet.
const LAST: Duration = Duration::from_millis(300);

/// See the module.
#[derive(Debug)]
pub struct Store {
    line: Mutex<Line>,
    facts: Arc<Facts>,
    queue: Sender<(Key, Vec<u8>)>,
    queued: Arc<AtomicUsize>,
}

/// A connection that rests after it has failed.
struct Line {
    server: Server,
    connection: Option<Connection>,
    rests: Option<Instant>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.server.fmt(f)
    }
}

impl Line {
    fn new(server: Server) -> Self {
        Line { server, connection: None, rests: None }
    }

    /// None while it cannot be had; why not is among the facts.
    fn with<T>(&mut self, facts: &Facts, work: impl FnOnce(&mut Connection) -> RedisResult<T>) -> Option<T> {
        if self.rests.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let done = match &mut self.connection {
            Some(connection) => work(connection).map_err(|error| self.server.words(&error)),
            None => {
                self.server.connect(PATIENCE).and_then(|new| work(self.connection.insert(new)).map_err(|error| self.server.words(&error)))
            }
        };
        match done {
            Ok(found) => {
                if self.rests.take().is_some() {
                    facts.answers(None);
                }
                Some(found)
            }
            Err(words) => {
                self.connection = None;
                self.rests = Some(Instant::now() + REST);
                facts.answers(Some(words));
                None
            }
        }
    }
}

fn name(key: &Key) -> String {
    format!("{PREFIX}answer:{}", hex(key))
}

fn add(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

impl Store {
    pub fn open(server: Server, facts: Arc<Facts>) -> Result<Self, String> {
        let (queue, waiting) = crossbeam_channel::bounded(QUEUE);
        let queued = Arc::new(AtomicUsize::new(0));
        let writer = Writer { line: Line::new(server.clone()), facts: facts.clone(), waiting, queued: queued.clone() };
        let thread = std::thread::Builder::new().name("wordmill-answers".into()).spawn(move || writer.run());
        thread.map_err(|error| format!("wordmill-answers: {error}"))?;
        Ok(Store { line: Mutex::new(Line::new(server)), facts, queue, queued })
    }

    fn look(&self, keys: &[Key]) -> Option<Vec<Option<Answer>>> {
        // A poisoned lock guards a connection that is in order or gives an error.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let values: Vec<Value> = line.with(&self.facts, |connection| {
            let mut pipe = redis::pipe();
            for key in keys {
                // One byte more than can be good: what is longer is seen to be, and not read.
                pipe.cmd("GETRANGE").arg(name(key)).arg(0).arg(MOST);
            }
            pipe.ignore_errors().query(connection)
        })?;
        drop(line);
        let mut found: Vec<Option<Answer>> = keys.iter().zip(values).map(|(key, value)| self.read(key, &value)).collect();
        found.resize(keys.len(), None);
        Some(found)
    }

    fn read(&self, key: &Key, value: &Value) -> Option<Answer> {
        let answer = match value {
            Value::BulkString(bytes) if bytes.is_empty() => return None,
            Value::BulkString(bytes) => decode(key, bytes),
            _ => None,
        };
        add(&self.facts.ignored, usize::from(answer.is_none()));
        answer
    }
}

impl Answers for Store {
    fn find(&self, keys: &[Key]) -> Vec<Option<Answer>> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            match self.look(some) {
                Some(answers) => found.extend(answers),
                None => break,
            }
        }
        found.resize(keys.len(), None);
        let hits = found.iter().flatten().count();
        add(&self.facts.hits, hits);
        add(&self.facts.misses, keys.len() - hits);
        found
    }

    fn keep(&self, key: &Key, answer: Answer) {
        let room = self.queued.load(Ordering::Relaxed) < QUEUE_BYTES;
        let value = encode(key, &answer).filter(|_| room);
        let length = value.as_ref().map_or(0, Vec::len);
        self.queued.fetch_add(length, Ordering::Relaxed);
        if value.is_none_or(|value| self.queue.try_send((*key, value)).is_err()) {
            self.queued.fetch_sub(length, Ordering::Relaxed);
            add(&self.facts.dropped, 1);
        }
    }

    fn flush(&self) {
        let until = Instant::now() + LAST;
        while self.queued.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Writer {
    line: Line,
    facts: Arc<Facts>,
    waiting: Receiver<(Key, Vec<u8>)>,
    queued: Arc<AtomicUsize>,
}

impl Writer {
    /// Until the store is gone.
    fn run(mut self) {
        while let Ok(first) = self.waiting.recv() {
            let some: Vec<(Key, Vec<u8>)> = std::iter::once(first).chain(self.waiting.try_iter().take(AT_ONCE - 1)).collect();
            let written = self.line.with(&self.facts, |connection| {
                let mut pipe = redis::pipe();
                for (key, value) in &some {
                    pipe.cmd("SET").arg(name(key)).arg(value).arg("EX").arg(KEPT).ignore();
                }
                pipe.query::<()>(connection)
            });
            add(if written.is_some() { &self.facts.kept } else { &self.facts.dropped }, some.len());
            self.queued.fetch_sub(some.iter().map(|(_, value)| value.len()).sum(), Ordering::Relaxed);
        }
    }
}
