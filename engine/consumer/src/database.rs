//! PostgreSQL: whose a block is, what became of it, and all that belongs to its batch.
//!
//! A statement is tried again until the server has answered, so nothing here fails because it is away
//! for a while; each statement may therefore be carried out twice, and does no harm then.

use crate::counts::Counts;
use crate::grants::LIVES_SECONDS;
use crate::http::{tls, words};
use crate::state::State;
use serde_json::Value;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

const PART: &str = "postgresql";
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(5);
/// A holder that says nothing for so long has lost its blocks.
pub const LEASE_SECONDS: i32 = 30;

/// See the module.
pub struct Database {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    client: Mutex<Option<Arc<Client>>>,
    state: Arc<State>,
}

/// A block that this process holds.
#[derive(Clone, Debug)]
pub struct Block {
    pub batch: String,
    pub number: i32,
    pub fence: i32,
    pub attempts: i32,
    pub offset: i64,
    pub size: i64,
    pub first: i64,
    /// JSON of the lines that are not sent.
    pub bad: String,
}

/// What a batch is, for who answers it.
pub struct Batch {
    pub id: String,
    pub owner: String,
    pub dataset: Option<String>,
    pub source: Option<String>,
    pub state: String,
    pub expired: bool,
    pub plan: Option<Value>,
    /// Where its file lies.
    pub place: Option<String>,
}

pub type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Database {
    /// `url`: as Python has it. The error is a sentence.
    pub fn new(url: &str, state: Arc<State>) -> Result<Self, String> {
        let (plain, mode) = address(url);
        let mut config =
            Config::from_str(&plain).map_err(|error| format!("The address of PostgreSQL is not understood: {}.", words(&error)))?;
        config.connect_timeout(CONNECT).keepalives_idle(Duration::from_secs(15)).application_name("wordmill-consumer");
        let tls = if matches!(mode.as_str(), "require" | "verify-ca" | "verify-full") {
            config.ssl_mode(SslMode::Require);
            Some(MakeRustlsConnect::new(tls()))
        } else {
            config.ssl_mode(SslMode::Disable);
            None
        };
        Ok(Database { config, tls, client: Mutex::new(None), state })
    }

    /// Where it is, in words without a password.
    pub fn place(&self) -> String {
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        format!("{} at {}", self.config.get_dbname().unwrap_or("?"), hosts.join(", "))
    }

    /// A connection of one's own.
    pub async fn connect(&self) -> Result<Client, String> {
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.map_err(|error| words(&error))?;
                // When it ends, the client says so.
                tokio::spawn(async move { drop(connection.await) });
                client
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(|error| words(&error))?;
                tokio::spawn(async move { drop(connection.await) });
                client
            }
        };
        Ok(client)
    }

    async fn client(&self) -> Result<Arc<Client>, String> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = Arc::new(self.connect().await?);
        *held = Some(client.clone());
        Ok(client)
    }

    /// Rows, once: the inner error is the statement's own, the outer one says that there is trouble.
    pub async fn once(&self, statement: &str, parameters: Parameters<'_>) -> Result<Result<Vec<Row>, String>, String> {
        let client = self.client().await?;
        match tokio::time::timeout(ANSWER, client.query(statement, parameters)).await {
            Ok(Ok(rows)) => Ok(Ok(rows)),
            Ok(Err(error)) if passes(error.code()) => Err(words(&error)),
            Ok(Err(error)) => Ok(Err(words(&error))),
            Err(_) => {
                *self.client.lock().await = None;
                Err(format!("no answer within {} s", ANSWER.as_secs()))
            }
        }
    }

    /// Rows, however long it takes. The error is the statement's own.
    pub async fn query(&self, statement: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, String> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.once(statement, parameters).await {
                Ok(answered) => {
                    self.state.well(PART);
                    return answered.map_err(|words| format!("PostgreSQL refuses a statement: {words}"));
                }
                Err(words) => {
                    self.state.trouble(PART, &format!("PostgreSQL ({}) does not answer: {words}. It is tried again.", self.place()))
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Take a block; None where it is done, dead, gone, or somebody's who lives.
    pub async fn take(&self, batch: &str, number: i32, holder: &str) -> Result<Option<Block>, String> {
        let rows = self
            .query(
                "UPDATE blocks SET attempts = attempts + 1, holder = $3, fence = fence + 1, \
                 lease_until = now() + make_interval(secs => $4::int4::float8) \
                 WHERE batch = $1 AND number = $2 AND NOT done AND dead IS NULL \
                 AND (lease_until IS NULL OR lease_until < now() OR holder = $3) \
                 RETURNING fence, attempts, \"offset\", size, first, bad::text",
                &[&batch, &number, &holder, &LEASE_SECONDS],
            )
            .await?;
        Ok(rows.first().map(|row| Block {
            batch: batch.into(),
            number,
            fence: row.get(0),
            attempts: row.get(1),
            offset: row.get(2),
            size: row.get(3),
            first: row.get(4),
            bad: row.get(5),
        }))
    }

    /// Say that these are still held; those that are (batch, number, fence).
    pub async fn renew(&self, held: &[(String, i32, i32)]) -> Result<Vec<(String, i32, i32)>, String> {
        let batches: Vec<&str> = held.iter().map(|(batch, _, _)| batch.as_str()).collect();
        let numbers: Vec<i32> = held.iter().map(|(_, number, _)| *number).collect();
        let fences: Vec<i32> = held.iter().map(|(_, _, fence)| *fence).collect();
        let rows = self
            .query(
                "UPDATE blocks SET lease_until = now() + make_interval(secs => $4::int4::float8) \
                 FROM unnest($1::text[], $2::int4[], $3::int4[]) AS mine(batch, number, fence) \
                 WHERE blocks.batch = mine.batch AND blocks.number = mine.number AND blocks.fence = mine.fence \
                 AND NOT blocks.done RETURNING blocks.batch, blocks.number, blocks.fence",
                &[&batches, &numbers, &fences, &LEASE_SECONDS],
            )
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// It has its segment: counts, the ledger and the grant, at once. Whether it was still ours.
    /// before: what had its result when the block was taken.
    pub async fn done(&self, block: &Block, counts: &Counts, before: &Counts, person: &str, holder: &str) -> Result<bool, String> {
        let spent = counts.since(before);
        let rows = self
            .query(
                "WITH ended AS (UPDATE blocks SET done = true, counts = $4::text::json, ended = now(), lease_until = NULL \
                 WHERE batch = $1 AND number = $2 AND fence = $3 AND NOT done RETURNING batch), \
                 charged AS (INSERT INTO ledger (id, at, person, door, model, subject, requests, input_tokens, output_tokens, money) \
                 SELECT left(md5($1::text || '/' || $2::int4), 24), now(), $5::text, 'batch', '', $1::text, \
                 $7::int8::int4, $8::int8::int4, $9::int8::int4, $10::float8 \
                 FROM ended WHERE $7::int8 > 0 OR $8::int8 > 0 OR $10::float8 > 0 ON CONFLICT (id) DO NOTHING), \
                 granted AS (UPDATE grants SET requests = greatest(grants.requests - $11::int8, 0), \
                 tokens = greatest(grants.tokens - $12::int8, 0), money = greatest(grants.money - $13::float8, 0) \
                 FROM ended WHERE grants.batch = ended.batch AND grants.holder = $6::text) \
                 SELECT 1 FROM ended UNION ALL SELECT 1 FROM blocks WHERE batch = $1 AND number = $2 AND fence = $3 AND done",
                &[
                    &block.batch,
                    &block.number,
                    &block.fence,
                    &counts.json().to_string(),
                    &person,
                    &holder,
                    &(counts.sent.0 as i64),
                    &(counts.sent.1 as i64),
                    &(counts.sent.2 as i64),
                    &counts.money,
                    &spent.0,
                    &spent.1,
                    &spent.2,
                ],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    /// It goes to the back of its queue. counts: of the lines that have their results, now and before.
    /// blameless: it does not count as an attempt.
    pub async fn give_up(&self, block: &Block, counts: Option<(&Counts, &Counts)>, blameless: bool, holder: &str) -> Result<(), String> {
        let spent = counts.map_or((0, 0, 0.0), |(counts, before)| counts.since(before));
        self.query(
            "WITH given AS (UPDATE blocks SET published = NULL, holder = NULL, lease_until = NULL, \
             attempts = attempts - $4::bool::int, counts = coalesce($5::text::json, counts) \
             WHERE batch = $1 AND number = $2 AND fence = $3 AND holder IS NOT NULL AND NOT done RETURNING batch) \
             UPDATE grants SET requests = greatest(grants.requests - $7::int8, 0), tokens = greatest(grants.tokens - $8::int8, 0), \
             money = greatest(grants.money - $9::float8, 0) FROM given WHERE grants.batch = given.batch AND grants.holder = $6::text",
            &[
                &block.batch,
                &block.number,
                &block.fence,
                &blameless,
                &counts.map(|(counts, _)| counts.json().to_string()),
                &holder,
                &spent.0,
                &spent.1,
                &spent.2,
            ],
        )
        .await
        .map(drop)
    }

    /// What the results that are there already have cost; before the rest is sent.
    pub async fn book(&self, block: &Block, counts: &Counts) -> Result<(), String> {
        self.query(
            "UPDATE blocks SET counts = $4::text::json WHERE batch = $1 AND number = $2 AND fence = $3 AND NOT done",
            &[&block.batch, &block.number, &block.fence, &counts.json().to_string()],
        )
        .await
        .map(drop)
    }

    /// Nobody takes it any more, for this reason.
    pub async fn bury(&self, block: &Block, reason: &str) -> Result<(), String> {
        let reason: String = crate::log::scrub(reason).replace('\0', "").chars().take(2000).collect();
        self.query(
            "UPDATE blocks SET dead = $4, holder = NULL, lease_until = NULL WHERE batch = $1 AND number = $2 AND fence = $3 AND NOT done",
            &[&block.batch, &block.number, &block.fence, &reason],
        )
        .await
        .map(drop)
    }

    /// A batch; None where it is no more.
    pub async fn batch(&self, id: &str) -> Result<Option<Batch>, String> {
        let rows = self
            .query(
                "SELECT b.owner, b.dataset, b.source, b.state, b.expires < now(), b.plan::text, f.place \
                 FROM batches b LEFT JOIN files f ON f.id = b.file WHERE b.id = $1",
                &[&id],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let plan: Option<String> = row.get(5);
        Ok(Some(Batch {
            id: id.into(),
            owner: row.get(0),
            dataset: row.get(1),
            source: row.get(2),
            state: row.get(3),
            expired: row.get(4),
            plan: plan.and_then(|text| serde_json::from_str(&text).ok()),
            place: row.get(6),
        }))
    }

    /// State and whether it has expired, of those of these batches that are there.
    pub async fn states(&self, ids: &[String]) -> Result<Vec<(String, String, bool)>, String> {
        let rows = self.query("SELECT id, state, expires < now() FROM batches WHERE id = ANY($1)", &[&ids]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// The queues in which blocks wait.
    pub async fn queues(&self) -> Result<Vec<String>, String> {
        let statement = "SELECT DISTINCT queue FROM blocks WHERE published IS NOT NULL AND NOT done AND dead IS NULL \
                         AND queue LIKE 'wordmill.blocks.%'";
        Ok(self.query(statement, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// A stored key of a provider, as it is sealed.
    pub async fn sealed(&self, owner: &str, model: &str) -> Result<Option<Vec<u8>>, String> {
        let rows = self.query("SELECT sealed FROM provider_keys WHERE owner = $1 AND model = $2", &[&owner, &model]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// This process lives.
    pub async fn seen(&self, holder: &str, detail: &Value) -> Result<(), String> {
        self.query(
            "INSERT INTO workers (id, kind, started, seen, detail) VALUES ($1, 'consumer', now(), now(), $2::text::json) \
             ON CONFLICT (id) DO UPDATE SET seen = now(), detail = excluded.detail",
            &[&holder, &detail.to_string()],
        )
        .await
        .map(drop)
    }

    /// This process ends.
    pub async fn gone(&self, holder: &str) -> Result<(), String> {
        self.query("WITH granted AS (DELETE FROM grants WHERE holder = $1) DELETE FROM workers WHERE id = $1", &[&holder]).await.map(drop)
    }

    /// What this process was granted is its own for longer.
    pub async fn keep_grants(&self, holder: &str) -> Result<(), String> {
        let statement = "UPDATE grants SET until = now() + make_interval(secs => $2::int4::float8) WHERE holder = $1";
        self.query(statement, &[&holder, &LIVES_SECONDS]).await.map(drop)
    }

    /// Of this batch nothing more is spent here.
    pub async fn end_grant(&self, batch: &str, holder: &str) -> Result<(), String> {
        self.query("DELETE FROM grants WHERE batch = $1 AND holder = $2", &[&batch, &holder]).await.map(drop)
    }
}

/// Whether another try may end better: the server ends, is full, or another transaction was first.
fn passes(code: Option<&SqlState>) -> bool {
    code.is_none_or(|code| ["08", "40", "53", "55", "57", "58"].contains(&&code.code()[..2]))
}

/// The address without what only Python's driver reads, and its `sslmode`.
fn address(url: &str) -> (String, String) {
    let url = url.replacen("postgresql+psycopg://", "postgresql://", 1);
    let (place, query) = url.split_once('?').unwrap_or((&url, ""));
    let mut mode = "prefer".to_string();
    let mut kept = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("sslmode", value)) => mode = value.into(),
            Some(("sslrootcert", _)) => {}
            _ => kept.push(part),
        }
    }
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    (format!("{place}{query}"), mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_python_are_read() {
        let (plain, mode) = address("postgresql+psycopg://u:p@h:5433/n?sslmode=verify-full&sslrootcert=x&application_name=y");
        assert_eq!((plain.as_str(), mode.as_str()), ("postgresql://u:p@h:5433/n?application_name=y", "verify-full"));
        let state = Arc::new(State::default());
        let database = Database::new("postgresql://mill@/t1?host=/tmp/somewhere", state.clone()).unwrap();
        assert_eq!(database.place(), "t1 at /tmp/somewhere");
        assert!(Database::new("postgresql://mill@/t1?port=x", state).err().unwrap().starts_with("The address of PostgreSQL"));
    }

    #[test]
    fn a_server_that_ends_is_asked_again_and_a_wrong_statement_is_not() {
        assert!(passes(None) && passes(Some(&SqlState::ADMIN_SHUTDOWN)) && passes(Some(&SqlState::T_R_DEADLOCK_DETECTED)));
        assert!(!passes(Some(&SqlState::UNDEFINED_TABLE)) && !passes(Some(&SqlState::UNIQUE_VIOLATION)));
    }
}
