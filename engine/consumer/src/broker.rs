//! RabbitMQ: one connection, a channel for each queue in which blocks wait.
//!
//! What comes is a reference. Few are taken ahead from each queue, so that a block which ends this
//! process is among few others; and its attempts are counted in PostgreSQL, not here.

use crate::http::words;
use crate::log;
use crate::state::State;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

const PART: &str = "rabbitmq";
const LONGEST: Duration = Duration::from_secs(10);
/// Without blocks for so long, a queue is left.
const EMPTY: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);
const SUBSCRIBE: Duration = Duration::from_secs(15);
/// A queue that could not be listened to is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// A message, and the queue that it came from.
pub struct Letter {
    pub queue: String,
    pub delivery: Delivery,
}

/// A queue that is listened to.
struct Listening {
    channel: Channel,
    tag: lapin::types::ShortString,
    task: JoinHandle<()>,
    wanted: Instant,
    quiet: bool,
}

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Listen,
    /// Nothing more is taken; what was taken can still be acknowledged.
    Quiet,
    End,
}

/// Listen to the queues that `wanted` names, until `phase` says otherwise.
pub async fn listen(
    url: String,
    prefetch: u16,
    wanted: watch::Receiver<HashSet<String>>,
    letters: mpsc::Sender<Letter>,
    mut phase: watch::Receiver<Phase>,
    state: Arc<State>,
) {
    let mut pause = Duration::from_millis(200);
    while *phase.borrow() != Phase::End {
        match connect(&url).await {
            Ok(connection) => {
                state.well(PART);
                pause = Duration::from_millis(200);
                if let Err(words) = serve(&connection, prefetch, &wanted, &letters, &mut phase).await {
                    state.trouble(PART, &format!("The connection to RabbitMQ is lost: {words}. It is made again."));
                }
                // It may be gone already.
                let _ = connection.close(200, "done".into()).await;
            }
            Err(words) => state.trouble(PART, &format!("RabbitMQ does not let us in: {words}. It is tried again.")),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = phase.changed() => {}
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// A connection, with a heartbeat where the address says none. The error is a sentence without its end.
pub async fn connect(url: &str) -> Result<Connection, String> {
    let beating = match url.split_once('?') {
        Some((_, query)) if query.contains("heartbeat=") => url.to_string(),
        Some(_) => format!("{url}&heartbeat=15"),
        None => format!("{url}?heartbeat=15"),
    };
    let properties = ConnectionProperties::default().with_connection_name("wordmill-consumer".into());
    match tokio::time::timeout(Duration::from_secs(15), Connection::connect(&beating, properties)).await {
        Ok(connected) => connected.map_err(|error| words(&error)),
        Err(_) => Err("no answer within 15 s".into()),
    }
}

async fn serve(
    connection: &Connection,
    prefetch: u16,
    wanted: &watch::Receiver<HashSet<String>>,
    letters: &mpsc::Sender<Letter>,
    phase: &mut watch::Receiver<Phase>,
) -> Result<(), String> {
    let mut open: HashMap<String, Listening> = HashMap::new();
    let mut refused: HashMap<String, Instant> = HashMap::new();
    loop {
        let now = *phase.borrow();
        if now == Phase::End {
            return Ok(());
        }
        if !connection.status().connected() {
            return Err("it was closed".into());
        }
        if now == Phase::Quiet {
            for listening in open.values_mut().filter(|listening| !listening.quiet) {
                listening.quiet = true;
                let cancelled = listening.channel.basic_cancel(listening.tag.clone(), BasicCancelOptions::default());
                cancelled.await.map_err(|error| words(&error))?;
            }
        }
        let names = if now == Phase::Listen { wanted.borrow().clone() } else { HashSet::new() };
        for name in &names {
            if let Some(listening) = open.get_mut(name) {
                listening.wanted = Instant::now();
            } else {
                if refused.get(name).is_some_and(|at| at.elapsed() < AGAIN) {
                    continue;
                }
                match tokio::time::timeout(SUBSCRIBE, subscribe(connection, name, prefetch, letters.clone())).await {
                    Ok(Ok(listening)) => {
                        refused.remove(name);
                        open.insert(name.clone(), listening);
                    }
                    // It says nothing of the other queues.
                    Ok(Err(error)) if connection.status().connected() => {
                        log::warning(&format!("A queue cannot be listened to just now: {}.", words(&error)), json!({"queue": name}));
                        refused.insert(name.clone(), Instant::now());
                    }
                    Ok(Err(error)) => return Err(words(&error)),
                    Err(_) => return Err(format!("no answer about the queue {name} within {} s", SUBSCRIBE.as_secs())),
                }
            }
        }
        let mut left = Vec::new();
        for (name, listening) in &open {
            if listening.quiet {
                continue;
            }
            let ended = listening.task.is_finished() || !listening.channel.status().connected();
            if ended || listening.wanted.elapsed() > EMPTY {
                left.push(name.clone());
            }
        }
        for name in left {
            if let Some(listening) = open.remove(&name) {
                // A channel that the broker closed is closed.
                let _ = listening.channel.close(200, "nothing waits".into()).await;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = phase.changed() => {}
        }
    }
}

async fn subscribe(connection: &Connection, name: &str, prefetch: u16, letters: mpsc::Sender<Letter>) -> lapin::Result<Listening> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments()).await?;
    let mut consumer = channel.basic_consume(name.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    let (queue, tag) = (name.to_string(), consumer.tag());
    let task = tokio::spawn(async move {
        while let Some(Ok(delivery)) = consumer.next().await {
            if letters.send(Letter { queue: queue.clone(), delivery }).await.is_err() {
                return;
            }
        }
    });
    Ok(Listening { channel, tag, task, wanted: Instant::now(), quiet: false })
}

/// Those with which Python declares the same queues.
fn arguments() -> FieldTable {
    let mut table = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    table.insert("x-queue-type".into(), text("quorum"));
    table.insert("x-delivery-limit".into(), AMQPValue::LongInt(50));
    table.insert("x-dead-letter-exchange".into(), text("wordmill.dead"));
    table.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    table.insert("x-overflow".into(), text("reject-publish"));
    table
}
