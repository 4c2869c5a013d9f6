//! The process: which blocks are taken, the sessions of their batches, and all that happens each second.

use crate::broker::{self, Letter, Phase};
use crate::database::{Batch, Block, Database};
use crate::document::Documents;
use crate::elastic::Search;
use crate::grants::{self, Grants};
use crate::health;
use crate::log;
use crate::plan::Plan;
use crate::session::{Command, Session, Setup};
use crate::settings::Settings;
use crate::state::State;
use crate::storage::Storage;
use crate::work;
use lapin::options::BasicRejectOptions;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::{mpsc, watch, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use wordmill_batch::Blocks;
use wordmill_core::config::Config;
use wordmill_core::Engine;

const LOOK: Duration = Duration::from_secs(1);
const RENEW: Duration = Duration::from_secs(10);
const SEEN: Duration = Duration::from_secs(3);
/// A session without blocks is kept for so long: its engine knows by now what its lanes bear.
const IDLE: Duration = Duration::from_secs(10);
/// What is still to be said after the grace period.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// See the module.
pub struct House {
    pub settings: Settings,
    pub state: Arc<State>,
    pub database: Arc<Database>,
    pub search: Search,
    pub storage: Storage,
    /// This process, by a name that nobody else has.
    pub holder: String,
    sessions: tokio::sync::Mutex<HashMap<String, Entry>>,
    /// By batch and number; with the fence when it is taken.
    held: Mutex<HashMap<(String, i32), Option<i32>>>,
    leaving: watch::Sender<Option<Instant>>,
}

struct Entry {
    seat: Seat,
    users: Arc<AtomicUsize>,
    idle: Instant,
    /// Gives it its budget, where that is bounded.
    granting: Option<AbortHandle>,
}

impl Entry {
    /// Whether a block of it is worked on, or what became of one is still being written down.
    fn used(&self) -> bool {
        self.users.load(Ordering::Acquire) > 1
    }

    /// How long it may be idle: what it was granted may be wanted elsewhere.
    fn patience(&self) -> Duration {
        if self.granting.is_some() {
            LOOK
        } else {
            IDLE
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(granting) = &self.granting {
            granting.abort();
        }
    }
}

/// A place in a batch's session, for as long as it is held.
pub struct Seat {
    pub session: Session,
    pub index: String,
    /// Who pays.
    pub person: String,
    /// Where the batch's file lies.
    pub place: String,
    users: Arc<AtomicUsize>,
}

impl Clone for Seat {
    fn clone(&self) -> Self {
        self.users.fetch_add(1, Ordering::AcqRel);
        Seat {
            session: self.session.clone(),
            index: self.index.clone(),
            person: self.person.clone(),
            place: self.place.clone(),
            users: self.users.clone(),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.users.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Why the lines of a batch are not asked any more, as `wordmill.batches.work` says it.
fn unwanted(state: &str, expired: bool) -> Option<(&'static str, &'static str)> {
    match state {
        "cancelling" | "cancelled" => Some(("batch_cancelled", "The batch was cancelled before this request was answered.")),
        _ if expired || state == "expired" => Some(("batch_expired", "The batch expired before this request was answered.")),
        _ => None,
    }
}

/// Work until SIGTERM. The error is a sentence.
pub async fn run(settings: Settings) -> Result<(), String> {
    let state = Arc::new(State::default());
    let database = Arc::new(Database::new(&settings.database_url, state.clone())?);
    let search = Search::new(&settings.elasticsearch_url)?;
    let storage = Storage::open(&settings.storage_url, &settings.home)?;
    let holder = name();
    let (leaving, _) = watch::channel(None);
    let house = Arc::new(House {
        settings,
        state,
        database,
        search,
        storage,
        holder,
        sessions: Default::default(),
        held: Default::default(),
        leaving,
    });
    let refused = |error| format!("The system does not tell us its signals: {error}.");
    let (mut term, mut int) = (signal(SignalKind::terminate()).map_err(refused)?, signal(SignalKind::interrupt()).map_err(refused)?);
    if let Some(address) = &house.settings.health {
        health::serve(address, house.state.clone()).await?;
    }
    let (phase, phased) = watch::channel(Phase::Listen);
    let (names, wanted) = watch::channel(HashSet::new());
    let (letters, inbox) = mpsc::channel(64);
    let (url, prefetch, state) = (house.settings.broker_url.clone(), house.settings.prefetch, house.state.clone());
    let listening = tokio::spawn(broker::listen(url, prefetch, wanted, letters, phased, state));
    let ticking = [tokio::spawn(look(house.clone(), names)), tokio::spawn(renew(house.clone())), tokio::spawn(seen(house.clone()))];
    log::info("The consumer is ready.", json!({"holder": house.holder, "version": env!("CARGO_PKG_VERSION")}));
    let working = tokio::spawn(deliver(house.clone(), inbox));
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    log::info("The consumer is asked to end: what is out may still come.", json!({"seconds": house.settings.grace.as_secs_f64()}));
    // Nobody listens any more, or both do.
    let _ = phase.send(Phase::Quiet);
    let until = Instant::now() + house.settings.grace;
    house.leaving.send_replace(Some(until));
    for entry in house.sessions.lock().await.values() {
        entry.seat.session.tell(Command::Leave(until));
    }
    let left = tokio::time::timeout(house.settings.grace + LAST_WORDS, working).await;
    if left.is_err() {
        log::warning("Some blocks did not end in time: others take them when their leases have passed.", json!({}));
    }
    ticking.iter().for_each(tokio::task::JoinHandle::abort);
    // As above.
    let _ = phase.send(Phase::End);
    let _ = tokio::time::timeout(LAST_WORDS, async { tokio::join!(listening, house.database.gone(&house.holder)) }).await;
    log::info("The consumer has ended.", json!({}));
    Ok(())
}

/// Give letters their slots: the more urgent ones first, and of every four the one that waits longest.
async fn deliver(house: Arc<House>, mut inbox: mpsc::Receiver<Letter>) {
    let slots = Arc::new(Semaphore::new(house.settings.blocks));
    let mut leaving = house.leaving.subscribe();
    let (mut waiting, mut tasks, mut turn) = (Vec::<Letter>::new(), JoinSet::new(), 0_u64);
    while leaving.borrow().is_none() {
        tokio::select! {
            letter = inbox.recv() => match letter {
                Some(letter) => waiting.push(letter),
                None => break,
            },
            slot = slots.clone().acquire_owned(), if !waiting.is_empty() => {
                turn += 1;
                let letter = waiting.remove(next(&waiting, turn));
                let house = house.clone();
                tasks.spawn(async move {
                    work::handle(&house, letter).await;
                    drop(slot);
                });
            }
            Some(_) = tasks.join_next() => {}
            _ = leaving.changed() => {}
        }
    }
    for letter in waiting {
        back(letter).await;
    }
    loop {
        tokio::select! {
            Some(letter) = inbox.recv() => back(letter).await,
            ended = tasks.join_next() => if ended.is_none() { return },
        }
    }
}

async fn back(letter: Letter) {
    // Where the channel is gone, the broker has it again already.
    let _ = letter.delivery.acker.reject(BasicRejectOptions { requeue: true }).await;
}

/// Which of these letters, oldest first, comes next.
fn next(waiting: &[Letter], turn: u64) -> usize {
    let queues: Vec<&str> = waiting.iter().map(|letter| letter.queue.as_str()).collect();
    chosen(&queues, turn)
}

fn chosen(queues: &[&str], turn: u64) -> usize {
    if turn.is_multiple_of(4) {
        return 0;
    }
    let urgency = |queue: &str| queue.rsplit('.').next().and_then(|last| last.parse::<u32>().ok()).unwrap_or_default();
    let most = queues.iter().map(|queue| urgency(queue)).max().unwrap_or_default();
    queues.iter().position(|queue| urgency(queue) == most).unwrap_or_default()
}

/// Each second: the queues in which blocks wait, and the states of the batches that are open.
async fn look(house: Arc<House>, names: watch::Sender<HashSet<String>>) {
    loop {
        match house.database.queues().await {
            Ok(found) => drop(names.send_replace(found.into_iter().collect())),
            Err(words) => house
                .state
                .trouble("tables", &format!("{words}. Is the database that of this version? `wordmill serve` brings it up to date.")),
        }
        let open: Vec<String> = house.sessions.lock().await.keys().cloned().collect();
        if !open.is_empty() {
            if let Ok(states) = house.database.states(&open).await {
                house.heed(&states).await;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn renew(house: Arc<House>) {
    loop {
        tokio::time::sleep(RENEW).await;
        let held: Vec<(String, i32, i32)> = {
            let all = lock(&house.held);
            all.iter().filter_map(|((batch, number), fence)| fence.map(|fence| (batch.clone(), *number, fence))).collect()
        };
        if held.is_empty() {
            continue;
        }
        if let Err(words) = house.database.keep_grants(&house.holder).await {
            log::error(&words, json!({}));
        }
        let Ok(ours) = house.database.renew(&held).await else { continue };
        let ours: HashSet<_> = ours.into_iter().collect();
        let sessions = house.sessions.lock().await;
        for lost in held.iter().filter(|held| !ours.contains(held)) {
            if let Some(entry) = sessions.get(&lost.0) {
                entry.seat.session.tell(Command::Drop(lost.1 as u64));
            }
        }
    }
}

async fn seen(house: Arc<House>) {
    let (mut before, mut at) = (house.state.requests.get(), Instant::now());
    loop {
        if let Err(words) = house.database.seen(&house.holder, &house.state.detail()).await {
            house.state.trouble("tables", &format!("{words}."));
        }
        tokio::time::sleep(SEEN).await;
        let now = house.state.requests.get();
        house.state.rate.set(((now - before) as f64 * 1000.0 / at.elapsed().as_secs_f64()) as u64);
        (before, at) = (now, Instant::now());
    }
}

/// The machine, the process, and a number that no other had.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut random = [0; 4];
    // Without it the moment and the process still tell two apart.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
    let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).take(100).collect();
    format!("{host}-{}-{:08x}", std::process::id(), u32::from_be_bytes(random))
}

impl House {
    /// Whether nobody in this process holds it already; now we do.
    pub fn hold(&self, batch: &str, number: i32) -> bool {
        let mut held = lock(&self.held);
        let key = (batch.to_string(), number);
        if held.contains_key(&key) {
            return false;
        }
        held.insert(key, None);
        true
    }

    /// It is taken.
    pub fn holds(&self, block: &Block) {
        lock(&self.held).insert((block.batch.clone(), block.number), Some(block.fence));
        self.state.blocks_open.set(lock(&self.held).len() as u64);
    }

    pub fn let_go(&self, batch: &str, number: i32) {
        lock(&self.held).remove(&(batch.to_string(), number));
        self.state.blocks_open.set(lock(&self.held).len() as u64);
    }

    /// How long to wait before a block that failed goes back.
    pub fn pause(&self, attempt: i32) -> Duration {
        if self.leaving.borrow().is_some() {
            Duration::ZERO
        } else {
            Duration::from_secs(attempt.clamp(1, 5) as u64)
        }
    }

    /// A place in the batch's session, which is started where there is none. The error is a sentence.
    pub async fn seat(&self, batch: &str) -> Result<Seat, String> {
        loop {
            let mut sessions = self.sessions.lock().await;
            match sessions.get_mut(batch) {
                Some(entry) if !entry.seat.session.over() => {
                    entry.idle = Instant::now();
                    return Ok(entry.seat.clone());
                }
                // What its blocks have cost is still being written down, and is in the grant till then.
                Some(entry) if entry.used() => {}
                Some(_) => {
                    sessions.remove(batch);
                    self.database.end_grant(batch, &self.holder).await?;
                }
                None => {
                    let (seat, granting) = self.opened(batch).await?;
                    if let Some(until) = *self.leaving.borrow() {
                        seat.session.tell(Command::Leave(until));
                    }
                    let entry = Entry { seat: seat.clone(), users: seat.users.clone(), idle: Instant::now(), granting };
                    sessions.insert(batch.into(), entry);
                    return Ok(seat);
                }
            }
            drop(sessions);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn opened(&self, id: &str) -> Result<(Seat, Option<AbortHandle>), String> {
        let batch = self.database.batch(id).await?.ok_or_else(|| format!("There is no batch {id} any more."))?;
        let plan = Plan::of(&batch)?;
        let words = unwanted(&batch.state, batch.expired);
        let grants = Grants { batch: id.into(), person: plan.person.clone(), holder: self.holder.clone(), budget: plan.budget };
        let bounded = grants.bounded(&self.database).await?;
        let granted = bounded.contains(&true);
        let config = match words {
            // Nothing is sent, so no key is needed.
            Some(_) => Config::parse(r#"{"owner":"","lanes":[{"name":"none","base_url":"http://127.0.0.1","model":"none"}]}"#)?,
            None => plan.config(&self.database, &self.settings, granted).await?,
        };
        let mut config = config;
        if granted {
            config.budget = grants::told(&[0.0; 3], bounded);
        }
        let engine = wordmill_redis::start(config).map_err(|words| format!("The engine cannot start: {words}."))?;
        let session = self.session(&batch, &plan, Arc::new(engine))?;
        if let Some((code, message)) = words {
            session.tell(Command::Abandon(code, message));
        }
        let place = batch.place.ok_or_else(|| format!("The file of the batch {id} is gone."))?;
        let granting = granted.then(|| {
            let (database, session, state) = (self.database.clone(), session.clone(), self.state.clone());
            tokio::spawn(grants.serve(database, session, bounded, state)).abort_handle()
        });
        Ok((Seat { session, index: plan.index, person: plan.person, place, users: Arc::new(AtomicUsize::new(1)) }, granting))
    }

    fn session(&self, batch: &Batch, plan: &Plan, engine: Arc<Engine>) -> Result<Session, String> {
        let blocks = Blocks::new(engine.clone(), &batch.id, &plan.path, plan.rules.clone(), plan.share).keeping();
        let setup = Setup {
            batch: batch.id.clone(),
            index: plan.index.clone(),
            documents: Documents::new(&batch.id, &batch.owner, batch.dataset.as_deref(), batch.source.as_deref()),
            search: self.search.clone(),
            state: self.state.clone(),
            block_time: self.settings.block_time,
            bulk_delay: self.settings.bulk_delay,
            bulk_bytes: self.settings.bulk_bytes,
            in_doubt: self.settings.in_doubt,
        };
        Session::start(setup, engine, blocks)
    }

    /// Abandon what nobody waits for, and close what has been idle for long enough.
    async fn heed(&self, states: &[(String, String, bool)]) {
        let mut sessions = self.sessions.lock().await;
        let mut granted = Vec::new();
        sessions.retain(|id, entry| {
            let words = match states.iter().find(|(own, _, _)| own == id) {
                Some((_, state, expired)) => unwanted(state, *expired),
                None => unwanted("cancelled", false),
            };
            if let Some((code, message)) = words {
                entry.seat.session.tell(Command::Abandon(code, message));
            }
            if entry.used() {
                entry.idle = Instant::now();
            }
            let keep = entry.used() || (entry.idle.elapsed() < entry.patience() && !entry.seat.session.over());
            if !keep {
                entry.seat.session.tell(Command::Close);
                if entry.granting.is_some() {
                    granted.push(id.clone());
                }
            }
            keep
        });
        for id in granted {
            // Still under the lock: whoever opens it next is granted anew.
            if let Err(words) = self.database.end_grant(&id, &self.holder).await {
                log::error(&words, json!({"batch": id}));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urgent_come_first_and_nobody_waits_for_ever() {
        let queues = ["wordmill.blocks.a.2", "wordmill.blocks.b.7", "wordmill.blocks.c.7"];
        assert_eq!((1..=4).map(|turn| chosen(&queues, turn)).collect::<Vec<_>>(), [1, 1, 1, 0]);
    }

    #[test]
    fn what_is_not_wanted_is_said_as_python_says_it() {
        assert_eq!(unwanted("in_progress", false), None);
        assert_eq!(unwanted("cancelling", true).map(|(code, _)| code), Some("batch_cancelled"));
        assert_eq!(unwanted("in_progress", true).map(|(code, _)| code), Some("batch_expired"));
    }
}
