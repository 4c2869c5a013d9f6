//! A batch under way: its engine, and the blocks of it that this process holds.
//!
//! One thread of its own, for it waits for the engine; what waits for Elasticsearch does so in tasks. A
//! block ends when all its lines have answers and Elasticsearch has confirmed each. One that takes too
//! long is given up: what was not sent is taken back, what is out is waited for, and nothing is kept.

use crate::bulk::{self, Bulk, Written};
use crate::document::Documents;
use crate::elastic::Search;
use crate::log;
use crate::state::State;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use wordmill_batch::{Bad, Blocks, Row, Segment};
use wordmill_core::config::Ceilings;
use wordmill_core::Engine;

/// Waits for the engine, where only its answers are waited for.
const STEP: Duration = Duration::from_millis(50);
/// `_bulk`s of a batch that are under way.
const BULKS: usize = 2;
/// Documents of one `_bulk`.
const DOCUMENTS: usize = 2000;
const TELL: Duration = Duration::from_secs(2);

/// What it must know.
pub struct Setup {
    pub batch: String,
    pub index: String,
    pub documents: Documents,
    pub search: Search,
    pub state: Arc<State>,
    pub block_time: Duration,
    pub bulk_delay: Duration,
    pub bulk_bytes: usize,
    pub in_doubt: usize,
}

/// A block to be answered.
pub struct Work {
    pub number: u64,
    pub first: u64,
    pub fence: i32,
    pub data: Vec<u8>,
    pub bad: Vec<Bad>,
    pub known: HashMap<u64, (Vec<u8>, Row)>,
    pub ended: oneshot::Sender<End>,
}

/// How a block ended.
pub enum End {
    /// Every line has its answer.
    Done(Segment),
    /// It is given up, with the answers that are there; all of these are confirmed.
    Given(Segment),
    /// Somebody else holds it.
    Lost,
    /// The engine cannot go on.
    Failed(String),
}

/// What a session is told.
pub enum Command {
    Add(Box<Work>),
    /// Nobody waits for the answers any more: every line without one has this error.
    Abandon(&'static str, &'static str),
    /// Somebody else holds this block, by its number.
    Drop(u64),
    /// Give all blocks up; what is out may take until then.
    Leave(Instant),
    /// Give all blocks up and end, for the budget is somebody else's just now.
    Yield,
    /// What all that is sent may cost from now on; whether it may be raised later.
    Allow(Ceilings, bool),
    Written(Written),
    /// No more blocks come.
    Close,
}

/// Tells a session what to do. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    commands: Sender<Command>,
    pub engine: Arc<Engine>,
    over: Arc<AtomicBool>,
}

/// Says that a session is over, however its thread ends.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Session {
    /// Start its thread. The error is a sentence.
    pub fn start(setup: Setup, engine: Arc<Engine>, blocks: Blocks) -> Result<Self, String> {
        let (commands, inbox) = mpsc::channel();
        let over = Arc::new(AtomicBool::new(false));
        let session = Session { commands: commands.clone(), engine: engine.clone(), over: over.clone() };
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("wordmill-batch".into())
            .spawn(move || {
                let _ended = Ended(over.clone());
                let now = Instant::now();
                let held = BTreeMap::new();
                Run {
                    setup,
                    engine,
                    blocks,
                    commands,
                    inbox,
                    runtime,
                    held,
                    bulk: Bulk::default(),
                    oldest: now,
                    bulks: 0,
                    doubt: 0,
                    left: None,
                    abandoned: None,
                    told: now,
                    closing: false,
                    yielding: false,
                    over,
                }
                .run();
            })
            .map_err(|error| format!("The system gives no thread for a batch: {error}."))?;
        Ok(session)
    }

    /// Whether it has ended.
    pub fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Whether it still listens.
    pub fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }
}

/// A block that is held.
struct Held {
    first: u64,
    fence: i32,
    began: Instant,
    /// Answers that are there and not confirmed.
    doubt: usize,
    /// When it was given up.
    leaving: Option<Instant>,
    ended: oneshot::Sender<End>,
}

struct Run {
    setup: Setup,
    engine: Arc<Engine>,
    blocks: Blocks,
    commands: Sender<Command>,
    inbox: Receiver<Command>,
    runtime: Handle,
    /// By their numbers.
    held: BTreeMap<u64, Held>,
    bulk: Bulk,
    /// When the first document of `bulk` came.
    oldest: Instant,
    bulks: usize,
    /// Answers that are there and not confirmed.
    doubt: usize,
    /// All blocks are given up; until then they may wait for what is out.
    left: Option<Instant>,
    abandoned: Option<(&'static str, &'static str)>,
    told: Instant,
    closing: bool,
    /// Whatever comes is given up.
    yielding: bool,
    over: Arc<AtomicBool>,
}

impl Run {
    fn run(mut self) {
        loop {
            if self.closing && self.held.is_empty() {
                break;
            }
            if !self.listen() {
                break;
            }
            if let Err(words) = self.step() {
                self.fail(&words);
                break;
            }
            self.flush();
            self.look();
            if self.told.elapsed() > TELL {
                self.told = Instant::now();
                self.setup.state.lanes(&self.setup.batch, self.engine.metrics().get("lanes").cloned());
            }
        }
        self.over.store(true, Ordering::Release);
        self.setup.state.lanes(&self.setup.batch, None);
        self.engine.close();
    }

    /// Do what was said; without anything to do but to wait, wait for it. False: nobody can say more.
    fn listen(&mut self) -> bool {
        let idle = self.blocks.out() == 0 && (self.room() == 0 || self.blocks.left() == 0);
        // What Elasticsearch confirms is told here too, so that it ends the wait.
        let mut wait = match idle {
            false => Duration::ZERO,
            true if self.bulk.places.is_empty() || self.bulks >= BULKS => STEP,
            true => STEP.min(self.setup.bulk_delay.saturating_sub(self.oldest.elapsed())),
        };
        loop {
            match self.inbox.recv_timeout(wait) {
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            wait = Duration::ZERO;
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Add(work) => self.add(*work),
            Command::Abandon(code, message) => {
                if self.abandoned.is_none() {
                    self.abandoned = Some((code, message));
                    self.engine.cancel(Duration::ZERO);
                    self.blocks.abandon(code, message);
                }
            }
            Command::Drop(number) => self.end(number, |_| End::Lost),
            Command::Leave(until) => {
                self.left = Some(until);
                self.leave();
            }
            Command::Yield => {
                (self.yielding, self.closing) = (true, true);
                self.leave();
            }
            Command::Allow(ceilings, open) => self.engine.allow(ceilings, open),
            Command::Written(Written { blocks, lost }) => {
                self.bulks -= 1;
                self.doubt -= blocks.len();
                for (number, fence) in blocks {
                    if let Some(held) = self.held.get_mut(&number).filter(|held| held.fence == fence) {
                        held.doubt -= 1;
                    }
                }
                for (number, fence) in lost {
                    if self.held.get(&number).is_some_and(|held| held.fence == fence) {
                        self.end(number, |_| End::Lost);
                    }
                }
            }
            Command::Close => self.closing = true,
        }
    }

    fn add(&mut self, work: Work) {
        let Work { number, first, fence, data, bad, known, ended } = work;
        self.setup.state.found.add(known.len() as u64);
        self.blocks.add_known(number, first, data, bad, known);
        self.held.insert(number, Held { first, fence, began: Instant::now(), doubt: 0, leaving: None, ended });
        if let Some((code, message)) = self.abandoned {
            self.blocks.abandon(code, message);
        }
        if self.left.is_some() || self.yielding {
            self.leave();
        }
    }

    /// How many more lines may be offered.
    fn room(&self) -> usize {
        let backlog = self.bulk.body.len() > 2 * self.setup.bulk_bytes;
        if backlog {
            0
        } else {
            self.setup.in_doubt.saturating_sub(self.doubt + self.blocks.out())
        }
    }

    /// Offer, and take what is answered into the next `_bulk`.
    fn step(&mut self) -> Result<(), String> {
        if self.blocks.out() > 0 || self.blocks.left() > 0 {
            let due = self.setup.bulk_delay.saturating_sub(self.oldest.elapsed());
            let wait = if self.bulk.places.is_empty() { STEP } else { STEP.min(due.max(Duration::from_millis(1))) };
            let out = self.blocks.out() > 0;
            self.blocks.step_within(self.room(), if out { wait } else { Duration::ZERO })?;
        }
        let Run { blocks, bulk, held, setup, oldest, doubt, .. } = self;
        blocks.fresh(|answer| {
            let Some(own) = held.get_mut(&answer.number) else { return };
            if bulk.places.is_empty() {
                *oldest = Instant::now();
            }
            own.doubt += 1;
            *doubt += 1;
            setup.state.requests.add(1);
            setup.state.failed.add(u64::from(answer.row.status != "ok"));
            setup.state.input_tokens.add(answer.row.input_tokens);
            setup.state.output_tokens.add(answer.row.output_tokens);
            let place = setup.documents.add(&mut bulk.body, &answer, own.fence);
            bulk.places.push(place);
        });
        Ok(())
    }

    /// Send the documents that have waited long enough, or that nothing else will join.
    fn flush(&mut self) {
        if self.bulk.places.is_empty() || self.bulks >= BULKS {
            return;
        }
        let full = self.bulk.body.len() >= self.setup.bulk_bytes || self.bulk.places.len() >= DOCUMENTS;
        let alone = self.blocks.out() == 0 && self.bulks == 0;
        if !full && !alone && self.oldest.elapsed() < self.setup.bulk_delay {
            return;
        }
        let bulk = std::mem::take(&mut self.bulk);
        self.bulks += 1;
        let (search, index, state, commands) =
            (self.setup.search.clone(), self.setup.index.clone(), self.setup.state.clone(), self.commands.clone());
        self.runtime.spawn(async move {
            let written = bulk::write(&search, &index, bulk, &state).await;
            // The session may have failed meanwhile.
            let _ = commands.send(Command::Written(written));
        });
    }

    /// End the blocks that are through, and give up those that take too long.
    fn look(&mut self) {
        let (mut done, mut given) = (Vec::new(), Vec::new());
        for (number, held) in &mut self.held {
            let (left, out) = self.blocks.waiting(held.first);
            if held.leaving.is_none() && left > 0 && held.began.elapsed() > self.setup.block_time {
                held.leaving = Some(Instant::now());
                self.blocks.give_up(held.first);
            }
            if held.doubt > 0 {
                continue;
            }
            let late = self.left.is_some_and(|until| Instant::now() >= until);
            let too_late = late || held.leaving.is_some_and(|since| since.elapsed() > self.setup.block_time);
            if left == 0 {
                done.push(*number);
            } else if held.leaving.is_some() && (out == 0 || too_late) {
                given.push(*number);
            }
        }
        for number in done {
            self.end(number, End::Done);
        }
        for number in given {
            self.end(number, End::Given);
        }
    }

    fn leave(&mut self) {
        for held in self.held.values_mut() {
            if held.leaving.is_none() {
                held.leaving = Some(Instant::now());
                self.blocks.give_up(held.first);
            }
        }
    }

    fn end(&mut self, number: u64, how: impl FnOnce(Segment) -> End) {
        if let Some(held) = self.held.remove(&number) {
            let segment = self.blocks.finish(held.first).unwrap_or_default();
            // Whoever waited for it may have gone.
            let _ = held.ended.send(how(segment));
        }
    }

    fn fail(&mut self, words: &str) {
        self.over.store(true, Ordering::Release); // first: whoever is told asks for another one
        log::error(&format!("The engine of a batch has ended: {words}."), json!({"batch": self.setup.batch}));
        for (_, held) in std::mem::take(&mut self.held) {
            let _ = held.ended.send(End::Failed(format!("The engine ended: {words}")));
        }
    }
}
