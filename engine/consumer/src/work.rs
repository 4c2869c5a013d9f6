//! A block, from its message to its acknowledgement.

use crate::broker::Letter;
use crate::counts::Counts;
use crate::database::Block;
use crate::document::Documents;
use crate::house::House;
use crate::http::words;
use crate::log;
use crate::session::{Command, End, Work};
use crate::storage::Fault;
use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::oneshot;
use wordmill_batch::{row, Bad, Row};

/// Errors that say nothing about the request: it is asked again.
const UNSAID: [&str; 5] = ["stopped", "budget", "cancelled", "batch_expired", "batch_cancelled"];

#[derive(Deserialize)]
struct Reference {
    batch: String,
    block: i32,
}

/// Why a block is not worked on to its end.
enum Stop {
    /// Asking again may help; counted.
    Failed(String),
    /// It is somebody else's.
    Lost,
}

impl From<String> for Stop {
    fn from(words: String) -> Self {
        Stop::Failed(words)
    }
}

/// Handle a message: it is acknowledged when PostgreSQL knows what became of its block.
pub async fn handle(house: &House, letter: Letter) {
    let Letter { queue, delivery } = letter;
    let reference: Reference = match serde_json::from_slice(&delivery.data) {
        Ok(reference) => reference,
        Err(error) => {
            log::error(&format!("A message is no reference to a block: {error}."), json!({"queue": queue}));
            // Where the channel is gone, the broker sends it again.
            let _ = delivery.acker.reject(BasicRejectOptions { requeue: false }).await;
            return;
        }
    };
    let Reference { batch, block } = reference;
    if house.hold(&batch, block) {
        match taken(house, &batch, block).await {
            Ok(()) => {}
            Err(words) => {
                log::error(&format!("A block cannot be taken: {words}."), json!({"batch": batch, "block": block}));
                tokio::time::sleep(Duration::from_secs(1)).await;
                house.let_go(&batch, block);
                let _ = delivery.acker.reject(BasicRejectOptions { requeue: true }).await;
                return;
            }
        }
        house.let_go(&batch, block);
    }
    if let Err(error) = delivery.acker.ack(BasicAckOptions::default()).await {
        // The block's row says what became of it: a message that comes again changes nothing.
        log::info(&format!("A message could not be acknowledged: {}.", words(&error)), json!({"batch": batch, "block": block}));
    }
}

/// Take it and see it through. The error is that of a statement.
async fn taken(house: &House, batch: &str, number: i32) -> Result<(), String> {
    let Some(block) = house.database.take(batch, number, &house.holder).await? else { return Ok(()) };
    house.state.blocks_taken.add(1);
    house.holds(&block);
    let most = house.settings.attempts;
    if block.attempts > most {
        let reason = format!("It was taken {most} times, and each time whoever held it ended before it did.");
        return bury(house, &block, &reason).await;
    }
    match answer(house, &block).await {
        Ok(()) => Ok(()),
        Err(Stop::Lost) => {
            house.state.blocks_lost.add(1);
            log::warning("Another consumer has taken over a block.", json!({"batch": batch, "block": number}));
            Ok(())
        }
        Err(Stop::Failed(words)) if block.attempts >= most => bury(house, &block, &words).await,
        Err(Stop::Failed(words)) => {
            house.state.blocks_failed.add(1);
            log::error(&words, json!({"batch": batch, "block": number, "attempt": block.attempts}));
            tokio::time::sleep(house.pause(block.attempts)).await;
            house.database.give_up(&block, None, false, &house.holder).await
        }
    }
}

async fn bury(house: &House, block: &Block, reason: &str) -> Result<(), String> {
    house.state.blocks_failed.add(1);
    log::error(&format!("A block is given up for good: {reason}"), json!({"batch": block.batch, "block": block.number}));
    house.database.bury(block, reason).await
}

async fn answer(house: &House, block: &Block) -> Result<(), Stop> {
    let bad: Vec<Bad> =
        serde_json::from_str(&block.bad).map_err(|error| format!("The bad lines of a block are not understood: {error}"))?;
    let seat = house.seat(&block.batch).await?;
    let data = stored(house, || house.storage.read(&seat.place, block.offset as u64, block.size as u64)).await?;
    let known = if block.fence > 1 { known(house, block, &seat.index, &data).await } else { HashMap::new() };
    let before = Counts::rows(known.values().map(|(_, row)| row));
    if !known.is_empty() {
        house.database.book(block, &before).await?;
    }
    let (ended, end) = oneshot::channel();
    let work = Work { number: block.number as u64, first: block.first as u64, fence: block.fence, data, bad, known, ended };
    if !seat.session.tell(Command::Add(Box::new(work))) {
        return Err(Stop::Failed("The engine of the batch has just ended.".into()));
    }
    let end = end.await.unwrap_or_else(|_| End::Failed("The engine of the batch has ended.".into()));
    match end {
        End::Done(segment) => {
            let counts = Counts::of(&segment);
            let place = format!("batches/{}/segments/{:07}.jsonl", block.batch, block.number);
            let data = Bytes::from(segment.data);
            stored(house, || house.storage.write(&place, data.clone())).await?;
            if !house.database.done(block, &counts, &before, &seat.person, &house.holder).await? {
                return Err(Stop::Lost);
            }
            house.state.blocks_done.add(1);
            Ok(())
        }
        End::Given(segment) => {
            house.state.blocks_given_up.add(1);
            Ok(house.database.give_up(block, Some((&Counts::of(&segment), &before)), true, &house.holder).await?)
        }
        End::Lost => Err(Stop::Lost),
        End::Failed(words) => Err(Stop::Failed(words)),
    }
}

/// Ask the storage until it answers.
async fn stored<T, F: std::future::Future<Output = Result<T, Fault>>>(house: &House, work: impl Fn() -> F) -> Result<T, Stop> {
    let mut pause = Duration::from_millis(200);
    loop {
        match work().await {
            Ok(found) => {
                house.state.well("storage");
                return Ok(found);
            }
            Err(Fault::Gone(words)) => return Err(Stop::Failed(format!("The storage does not hold what the block needs: {words}."))),
            Err(Fault::Trouble(words)) => {
                house.state.trouble("storage", &format!("The storage does not do what it should: {words}. It is tried again."))
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// The results of a block's lines that Elasticsearch has, by their numbers.
async fn known(house: &House, block: &Block, index: &str, data: &[u8]) -> HashMap<u64, (Vec<u8>, Row)> {
    let lines = memchr::memchr_iter(b'\n', data).count() as u64 + u64::from(!data.ends_with(b"\n"));
    let first = block.first as u64;
    let ids: Vec<String> = (first..first + lines).map(|line| Documents::id(&block.batch, line + 1)).collect();
    let mut pause = Duration::from_millis(200);
    let found = loop {
        match house.search.results(index, &ids).await {
            Ok(found) => break found,
            Err(words) => house
                .state
                .trouble("elasticsearch", &format!("Elasticsearch does not say which results are there: {words}. It is tried again.")),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    };
    house.state.well("elasticsearch");
    let results = found.into_values().filter(|(status, _)| !UNSAID.contains(&status.as_str()));
    results
        .filter_map(|(_, result)| {
            let row = row(result.as_bytes()).ok()?;
            let mut line = result.into_bytes();
            line.push(b'\n');
            Some((row.line, (line, row)))
        })
        .collect()
}
