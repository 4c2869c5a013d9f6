//! The run's SQLite file: replies as the servers sent them, finished rows, what was spent.
//!
//! One thread writes, whole batches at a time, and a reply is reported only after its commit.
//! The key of a reply is its request's number, (row, column, item, try): numbers come nearly
//! in order, so the B-tree grows at its end, which a key made of hashes would not allow.

use crate::commons::Answer;
use crate::json::Key;
use crate::record::{Api, Outcome, Reply, Spent};
use crate::reply;
use bytes::Bytes;
use rusqlite::{params, Connection, OpenFlags, OptionalExtension};
use std::path::Path;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS replies(
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, state INTEGER NOT NULL, api INTEGER NOT NULL, lane INTEGER NOT NULL,
    flags INTEGER NOT NULL, attempts INTEGER NOT NULL, micros INTEGER NOT NULL, sent INTEGER NOT NULL,
    money REAL NOT NULL, detail TEXT, body BLOB);
CREATE TABLE IF NOT EXISTS rows(row INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS lanes(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS meter(one INTEGER PRIMARY KEY CHECK (one = 1),
    requests INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL, money REAL NOT NULL);
INSERT OR IGNORE INTO meter VALUES(1, 0, 0, 0, 0.0);
";

/// `PRAGMA user_version` of a records file; another one is refused.
const VERSION: i64 = 1;

/// The writing end, or a reading one.
pub struct Records {
    db: Connection,
    /// The number in the file for each of our lanes.
    lanes: Vec<i64>,
    names: Vec<(i64, String)>,
}

/// A reply found in a records file.
pub struct Found {
    pub reply: Reply,
    pub raw: Bytes,
    pub lane: String,
    pub flags: u32,
    pub attempts: u32,
    pub micros: u64,
    pub money: f64,
}

fn words(path: &str) -> impl Fn(rusqlite::Error) -> String + '_ {
    move |error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => format!("{path}: the disk is full. What is durable is kept: free some room and resume."),
        Some(rusqlite::ErrorCode::SystemIoFailure) => {
            format!("{path}: {error}. Is the disk full, or a limit on file sizes reached? What is durable is kept: mend it and resume.")
        }
        _ => format!("{path}: {error}"),
    }
}

fn another(path: &str, version: i64) -> String {
    format!("{path}: written by another version of Wordmill (format {version}, this one writes {VERSION})")
}

impl Records {
    /// Open for writing; made when it does not exist.
    pub fn create(path: &str, lanes: &[String]) -> Result<Self, String> {
        let at = words(path);
        let db = Connection::open(path).map_err(&at)?;
        db.execute_batch(
            "PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=16384;
             PRAGMA cache_size=-4000; PRAGMA temp_store=MEMORY; PRAGMA busy_timeout=10000;",
        )
        .map_err(&at)?;
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&at)?;
        if version != 0 && version != VERSION {
            return Err(another(path, version));
        }
        db.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")).map_err(&at)?;
        for name in lanes {
            db.execute("INSERT OR IGNORE INTO lanes(name) VALUES(?)", [name]).map_err(&at)?;
        }
        db.set_prepared_statement_cache_capacity(16);
        Self::with(db, lanes).map_err(&at)
    }

    /// Open for reading only.
    pub fn read(path: &str) -> Result<Self, String> {
        let at = words(path);
        if !Path::new(path).exists() {
            return Err(format!("{path}: there is no such file"));
        }
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(&at)?;
        db.execute_batch("PRAGMA cache_size=-2000; PRAGMA busy_timeout=10000;").map_err(&at)?;
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&at)?;
        if version != VERSION {
            return Err(another(path, version));
        }
        Self::with(db, &[]).map_err(&at)
    }

    fn with(db: Connection, lanes: &[String]) -> rusqlite::Result<Self> {
        let names: Vec<(i64, String)> = {
            let mut statement = db.prepare("SELECT number, name FROM lanes")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let lanes = lanes.iter().filter_map(|lane| names.iter().find(|(_, name)| name == lane).map(|(number, _)| *number)).collect();
        Ok(Records { db, lanes, names })
    }

    /// There are replies already.
    pub fn some_replies(&self) -> Result<bool, String> {
        self.db.query_row("SELECT EXISTS(SELECT 1 FROM replies)", [], |row| row.get(0)).map_err(|e| e.to_string())
    }

    /// What all runs of this file have spent.
    pub fn spent(&self) -> Result<Spent, String> {
        self.db
            .query_row("SELECT requests, input, output, money FROM meter", [], |row| {
                Ok(Spent {
                    requests: row.get::<_, i64>(0)? as u64,
                    input_tokens: row.get::<_, i64>(1)? as u64,
                    output_tokens: row.get::<_, i64>(2)? as u64,
                    money: row.get(3)?,
                })
            })
            .map_err(|e| e.to_string())
    }

    /// Commit outcomes and rows together, and what was spent besides.
    pub fn commit(&mut self, outcomes: &[(Outcome, Api, usize)], rows: &[(i64, Vec<u8>)], mut spent: Spent) -> Result<(), rusqlite::Error> {
        let transaction = self.db.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO replies(id,key,state,api,lane,flags,attempts,micros,sent,money,detail,body) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
            )?;
            for (outcome, api, sent) in outcomes {
                spent.add(&outcome.owed);
                if !outcome.recorded() || outcome.stream.is_some() {
                    continue;
                }
                let (state, detail) = match &outcome.result {
                    Ok(_) => (0, None),
                    Err(failure) => (failure.kind as i64, Some(&failure.detail)),
                };
                insert.execute(params![
                    outcome.id as i64,
                    &outcome.key[..],
                    state,
                    *api as i64,
                    self.lanes.get(outcome.lane).copied().unwrap_or(0),
                    outcome.flags,
                    outcome.attempts,
                    outcome.micros as i64,
                    *sent as i64,
                    outcome.spent.money,
                    detail,
                    (!outcome.raw.is_empty()).then_some(&outcome.raw[..]),
                ])?;
            }
            let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO rows(row, value) VALUES(?,?)")?;
            for (row, value) in rows {
                insert.execute(params![row, value])?;
            }
            if spent != Spent::default() {
                transaction
                    .prepare_cached("UPDATE meter SET requests=requests+?, input=input+?, output=output+?, money=money+?")?
                    .execute(params![spent.requests as i64, spent.input_tokens as i64, spent.output_tokens as i64, spent.money])?;
            }
        }
        transaction.commit()
    }

    /// The good reply of that number, if it answers this very request.
    pub fn find(&self, id: u64, key: &Key) -> Result<Option<Found>, String> {
        let row = self
            .db
            .prepare_cached("SELECT api, lane, flags, attempts, micros, sent, money, body FROM replies WHERE id=? AND key=? AND state=0")
            .and_then(|mut statement| {
                statement
                    .query_row(params![id as i64, &key[..]], |row| {
                        Ok((
                            row.get::<_, i64>(0)?,
                            row.get::<_, i64>(1)?,
                            row.get::<_, u32>(2)?,
                            row.get::<_, u32>(3)?,
                            row.get::<_, i64>(4)?,
                            row.get::<_, i64>(5)?,
                            row.get::<_, f64>(6)?,
                            row.get::<_, Vec<u8>>(7)?,
                        ))
                    })
                    .optional()
            })
            .map_err(|e| e.to_string())?;
        let Some((api, lane, flags, attempts, micros, sent, money, body)) = row else { return Ok(None) };
        let api =
            [Api::Chat, Api::Completion, Api::Embedding, Api::Other].into_iter().find(|known| *known as i64 == api).unwrap_or(Api::Other);
        // What was once understood is understood again, unless the rules have changed: then it is asked again.
        let Ok(reply) = reply::read(api, &body, sent as usize) else { return Ok(None) };
        let lane = self.names.iter().find(|(number, _)| *number == lane).map(|(_, name)| name.clone()).unwrap_or_default();
        Ok(Some(Found { reply, raw: body.into(), lane, flags, attempts, micros: micros as u64, money }))
    }

    /// Keys and numbers of all good replies, for the cache; what a fallback said is not the model's own answer.
    pub fn each_key(&self, mut take: impl FnMut(Key, u64) -> Result<(), String>) -> Result<(), String> {
        let mut statement = self.db.prepare("SELECT key, id FROM replies WHERE state=0 AND flags & 4 = 0").map_err(|e| e.to_string())?;
        let mut rows = statement.query([]).map_err(|e| e.to_string())?;
        while let Some(row) = rows.next().map_err(|e| e.to_string())? {
            let key: Vec<u8> = row.get(0).map_err(|e| e.to_string())?;
            let id: i64 = row.get(1).map_err(|e| e.to_string())?;
            if let Ok(key) = Key::try_from(key.as_slice()) {
                take(key, id as u64)?;
            }
        }
        Ok(())
    }

    /// Stored rows from `low` up to but without `high`, in order.
    pub fn rows(&self, low: i64, high: i64) -> Result<Vec<(i64, Vec<u8>)>, String> {
        let mut statement =
            self.db.prepare_cached("SELECT row, value FROM rows WHERE row>=? AND row<? ORDER BY row").map_err(|e| e.to_string())?;
        let rows = statement.query_map([low, high], |row| Ok((row.get(0)?, row.get(1)?))).map_err(|e| e.to_string())?;
        rows.collect::<rusqlite::Result<_>>().map_err(|e| e.to_string())
    }

    pub fn row_numbers(&self) -> Result<Vec<i64>, String> {
        let mut statement = self.db.prepare("SELECT row FROM rows ORDER BY row").map_err(|e| e.to_string())?;
        let rows = statement.query_map([], |row| row.get(0)).map_err(|e| e.to_string())?;
        rows.collect::<rusqlite::Result<_>>().map_err(|e| e.to_string())
    }
}

/// An answer that other processes remember, if it is understood.
pub fn found(answer: Answer, lane: &str) -> Option<Found> {
    let reply = reply::read(answer.api, &answer.body, answer.sent as usize).ok()?;
    let Answer { flags, attempts, micros, body, .. } = answer;
    Some(Found { reply, raw: body, lane: lane.into(), flags, attempts, micros, money: 0.0 })
}

/// The outcome of a request whose answer was found.
pub fn outcome_of(found: Found, id: u64, key: Key, lane: usize, flags: u32) -> Outcome {
    // What a resumed one cost is known, and paid already: it stands nowhere in `owed`.
    let spent = if flags & crate::record::flag::RESUMED == 0 { Spent::default() } else { Spent { money: found.money, ..Spent::default() } };
    let kept = found.flags & (crate::record::flag::ESTIMATED | crate::record::flag::REFUSAL | crate::record::flag::FALLBACK);
    Outcome {
        id,
        key,
        lane,
        result: Ok(found.reply),
        raw: found.raw,
        attempts: found.attempts,
        micros: found.micros,
        flags: kept | flags,
        spent,
        owed: Spent::default(),
        stream: None,
        held: false,
        partial: String::new(),
    }
}

/// A fault of the records file, in words.
pub fn fault(path: &str, error: rusqlite::Error) -> String {
    words(path)(error)
}
