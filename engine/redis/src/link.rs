//! The thread that asks for slices of limits, and what is known about how it goes.

use crate::server::{Server, PREFIX};
use crate::unneeded;
use redis::{Connection, ErrorKind, RedisResult, ServerErrorKind};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{json, Value};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wordmill_core::commons::{Commons, Link};
use wordmill_core::json::{hex, Key};
use wordmill_core::share::{Ask, Grant, Standing, Want, BEAT, GONE};

const PATIENCE: Duration = Duration::from_millis(500);
/// Between two tries to reach a server.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// A link that no engine uses stays open for so long.
const IDLE: Duration = Duration::from_secs(60);
const SCRIPT: &str = include_str!("limit.lua");

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Facts {
    /// Why limits, and why answers, are not shared at present.
    limits: Mutex<Option<String>>,
    answers: Mutex<Option<String>>,
    processes: AtomicU32,
    pub asked: AtomicU64,
    /// How often the server was lost.
    pub lost: AtomicU64,
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub kept: AtomicU64,
    /// Answers that were not kept: too long, too many at once, nobody there.
    pub dropped: AtomicU64,
    /// What lay under an answer's name and was none.
    pub ignored: AtomicU64,
}

impl Facts {
    fn limits(&self, words: Option<String>) {
        let lost = words.is_some();
        let before = std::mem::replace(&mut *lock(&self.limits), words);
        self.lost.fetch_add(u64::from(lost && before.is_none()), Ordering::Relaxed);
    }

    pub fn answers(&self, words: Option<String>) {
        *lock(&self.answers) = words;
    }

    fn to_json(&self) -> Value {
        let words = lock(&self.limits).clone().or_else(|| lock(&self.answers).clone());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "works": words.is_none(), "words": words, "processes": self.processes.load(Ordering::Relaxed),
            "asked": count(&self.asked), "lost": count(&self.lost), "hits": count(&self.hits), "misses": count(&self.misses),
            "kept": count(&self.kept), "dropped": count(&self.dropped), "ignored": count(&self.ignored),
        })
    }
}

/// What the engines see of the thread.
#[derive(Debug)]
pub struct Linked {
    called: Mutex<bool>,
    rung: Condvar,
    facts: Arc<Facts>,
}

impl Linked {
    pub fn new(facts: Arc<Facts>) -> Self {
        Linked { called: Mutex::new(false), rung: Condvar::new(), facts }
    }

    fn wait(&self, until: Instant) {
        let mut called = lock(&self.called);
        while !*called {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            called = self.rung.wait_timeout(called, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *called = false;
    }
}

impl Link for Linked {
    fn wanted(&self) {
        *lock(&self.called) = true;
        self.rung.notify_one();
    }

    fn state(&self) -> Value {
        self.facts.to_json()
    }
}

/// The thread ends by itself when no engine has used it for a while.
pub fn spawn(server: Server, linked: Arc<Linked>, commons: Arc<Commons>) -> Result<(), String> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| "this machine has no random numbers")?;
    let keeper = Keeper { server, linked, commons, holder: hex(&id), line: None, retry: Instant::now(), wait: FIRST };
    let thread = std::thread::Builder::new().name("wordmill-limits".into()).spawn(move || keeper.run());
    thread.map(drop).map_err(|error| format!("wordmill-limits: {error}"))
}

struct Keeper {
    server: Server,
    linked: Arc<Linked>,
    commons: Arc<Commons>,
    /// By what the server knows this process.
    holder: String,
    line: Option<(Connection, String)>,
    retry: Instant,
    wait: Duration,
}

impl Keeper {
    fn run(mut self) {
        let mut used = Instant::now();
        loop {
            let now = Instant::now();
            if Arc::strong_count(&self.commons) > 1 {
                used = now;
            } else if now >= used + IDLE && unneeded(&self.commons) {
                return;
            }
            self.reach(now);
            let next = if self.line.is_some() { self.round(now) } else { self.retry };
            if self.line.is_none() {
                let now = Instant::now();
                self.commons.limits(now).iter().for_each(|limit| limit.missed(now));
            }
            self.linked.wait(next.min(now + BEAT));
        }
    }

    fn reach(&mut self, now: Instant) {
        if self.line.is_some() || now < self.retry {
            return;
        }
        match self.open() {
            Ok(line) => {
                self.line = Some(line);
                self.linked.facts.limits(None);
            }
            Err(words) => self.lose(words),
        }
    }

    fn open(&self) -> Result<(Connection, String), String> {
        let mut connection = self.server.connect(PATIENCE)?;
        let name = load(&mut connection).map_err(|error| self.server.words(&error))?;
        Ok((connection, name))
    }

    fn lose(&mut self, words: String) {
        self.line = None;
        self.retry = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(LONGEST);
        self.linked.facts.limits(Some(words));
    }

    /// Ask for what the limits want; when to look again.
    fn round(&mut self, now: Instant) -> Instant {
        let mut next = now + BEAT;
        let mut processes = 0;
        for limit in self.commons.limits(now) {
            let asked = Instant::now();
            match limit.ask(asked) {
                Err(at) => next = next.min(at),
                Ok(ask) => {
                    let Some((connection, script)) = &mut self.line else { return next };
                    self.linked.facts.asked.fetch_add(1, Ordering::Relaxed);
                    match slice(connection, script, &self.holder, limit.name(), &ask) {
                        Ok(grant) => {
                            limit.granted(asked, Instant::now(), &grant);
                            self.wait = FIRST;
                            next = now;
                        }
                        Err(error) => {
                            let words = self.server.words(&error);
                            self.lose(words);
                            return self.retry;
                        }
                    }
                }
            }
            processes = processes.max(limit.holders());
        }
        self.linked.facts.processes.store(processes, Ordering::Relaxed);
        next
    }
}

fn load(connection: &mut Connection) -> RedisResult<String> {
    redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query(connection)
}

fn slice(connection: &mut Connection, script: &mut String, holder: &str, name: &Key, ask: &Ask) -> RedisResult<Grant> {
    match call(connection, script, holder, name, ask) {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            *script = load(connection)?;
            call(connection, script, holder, name, ask)
        }
        other => other,
    }
}

fn call(connection: &mut Connection, script: &str, holder: &str, name: &Key, ask: &Ask) -> RedisResult<Grant> {
    let limit = format!("{PREFIX}{{{}}}", hex(name));
    let standing = match ask.standing {
        Standing::New => "new",
        Standing::Known => "known",
        Standing::Back => "back",
    };
    let mut command = redis::cmd("EVALSHA");
    command.arg(script).arg(2).arg(format!("{limit}:limit")).arg(format!("{limit}:holders"));
    command.arg(holder).arg(micros(GONE)).arg(standing).arg(micros(ask.pause));
    for Want { per_second, most, least, want, spent } in [ask.requests, ask.tokens] {
        for number in [per_second, most, least, want, spent] {
            command.arg(format!("{number:.6}"));
        }
    }
    let [requests, tokens, wait, pause, holders]: [f64; 5] = command.query(connection)?;
    let micros = |count: f64| Duration::try_from_secs_f64(count / 1e6).unwrap_or_default();
    let sane = |amount: f64| if amount.is_finite() && amount > 0.0 { amount } else { 0.0 };
    Ok(Grant { requests: sane(requests), tokens: sane(tokens), wait: micros(wait), pause: micros(pause), holders: holders as u32 })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
