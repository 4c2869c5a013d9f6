//! The cache between runs: an index of which reply stands in which run's records.
//!
//! The replies themselves stay where they were made durable, so a run pays for the cache with 24
//! bytes a reply, written in sorted batches. The index can be lost: a records file that was not
//! indexed to its end (a crash) is read again when the cache is next opened.

use crate::json::Key;
use crate::store::{Found, Records};
use rusqlite::{params, Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SCHEMA: &str = "
PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA busy_timeout=5000; PRAGMA cache_size=-8000;
CREATE TABLE IF NOT EXISTS files(number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, whole INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS entries(key BLOB PRIMARY KEY, file INTEGER NOT NULL, id INTEGER NOT NULL) WITHOUT ROWID;
";

/// Entries that are written at once.
pub const BATCH: usize = 16_384;

pub struct Cache {
    db: Connection,
    /// Records of other runs; the one that was used last at the end. None: it cannot be read.
    readers: Vec<(i64, Option<Records>)>,
    /// Our own records, whose replies are found by their number.
    own: Option<i64>,
    empty: bool,
}

/// Held by the threads that look up and the one that writes, until the engine is closed.
pub type SharedCache = Arc<Mutex<Option<Cache>>>;

/// Records files that are held open.
const READERS: usize = 16;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// The file is no index any more; not that it cannot be had.
fn damaged(error: &rusqlite::Error) -> bool {
    let short = error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ);
    short || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn words(error: rusqlite::Error) -> String {
    format!("the cache: {error}")
}

/// Held while a process writes to a records file; freed by the system when it ends.
pub struct FileLock {
    _file: std::fs::File,
}

impl FileLock {
    /// None when another process holds it.
    pub fn take(records: &str) -> Result<Option<Self>, String> {
        let path = format!("{records}.lock");
        let file =
            std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|error| format!("{path}: {error}"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FileLock { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(format!("{path}: {error}")),
        }
    }
}

impl Cache {
    /// Open, and take in what crashed runs left unindexed. `own`: the records of this run.
    ///
    /// An index that is damaged is set aside and made again out of the records.
    pub fn open(path: &str, own: Option<&str>) -> Result<Self, String> {
        Self::begin(path, own)
            .or_else(|error| {
                if !damaged(&error) {
                    return Err(error);
                }
                let files = Self::files(path).unwrap_or_default();
                for end in ["", "-wal", "-shm"] {
                    // What is not there need not be moved; a file that cannot be moved is met again below.
                    let _ = std::fs::rename(format!("{path}{end}"), format!("{path}.damaged{end}"));
                }
                let db = Connection::open(path)?;
                db.execute_batch(SCHEMA)?;
                for (file, used) in files {
                    db.execute("INSERT OR IGNORE INTO files(path, whole, used) VALUES(?, 0, ?)", params![file, used])?;
                }
                drop(db);
                Self::begin(path, own)
            })
            .map_err(words)
    }

    fn begin(path: &str, own: Option<&str>) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        db.execute_batch(SCHEMA)?;
        db.set_prepared_statement_cache_capacity(8);
        let mut cache = Cache { db, readers: Vec::new(), own: None, empty: false };
        cache.index_what_crashed(own)?;
        if let Some(records) = own {
            cache.db.execute(
                "INSERT INTO files(path, whole, used) VALUES(?1, 0, ?2) ON CONFLICT(path) DO UPDATE SET whole=0, used=?2",
                params![records, now()],
            )?;
            cache.own = Some(cache.db.query_row("SELECT number FROM files WHERE path=?", [records], |row| row.get(0))?);
        }
        cache.empty = !cache.db.query_row("SELECT EXISTS(SELECT 1 FROM entries)", [], |row| row.get::<_, bool>(0))?;
        Ok(cache)
    }

    /// The records files that an index names, as far as it can be read.
    fn files(path: &str) -> rusqlite::Result<Vec<(String, i64)>> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = db.prepare("SELECT path, used FROM files")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.map_while(Result::ok).collect())
    }

    fn index_what_crashed(&mut self, own: Option<&str>) -> rusqlite::Result<()> {
        let left: Vec<(i64, String)> = {
            let mut statement = self.db.prepare("SELECT number, path FROM files WHERE whole=0")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        for (number, path) in left {
            // A run that is still going on indexes itself; ours holds its own lock already.
            let _lock = if own == Some(path.as_str()) {
                None
            } else {
                match FileLock::take(&path) {
                    Ok(Some(lock)) => Some(lock),
                    Ok(None) => continue,
                    Err(_) => {
                        self.forget_file(number)?;
                        continue;
                    }
                }
            };
            // What cannot be read is a miss.
            let Ok(records) = Records::read(&path) else {
                self.forget_file(number)?;
                continue;
            };
            let mut batch = Vec::with_capacity(BATCH);
            let mut fault = None;
            let read = records.each_key(|key, id| {
                batch.push((key, id));
                if batch.len() == BATCH {
                    self.insert(number, &mut batch).map_err(|error| fault.insert(error).to_string())?;
                }
                Ok(())
            });
            if let Some(error) = fault {
                return Err(error);
            }
            if read.is_err() {
                self.forget_file(number)?;
                continue;
            }
            self.insert(number, &mut batch)?;
            self.db.execute("UPDATE files SET whole=1 WHERE number=?", [number])?;
        }
        Ok(())
    }

    fn forget_file(&mut self, number: i64) -> rusqlite::Result<()> {
        self.db.execute("DELETE FROM entries WHERE file=?", [number])?;
        self.db.execute("DELETE FROM files WHERE number=?", [number]).map(drop)
    }

    /// Add replies of our own records; `batch` is emptied.
    pub fn add(&mut self, batch: &mut Vec<(Key, u64)>) -> Result<(), String> {
        match self.own {
            Some(number) => self.insert(number, batch).map_err(words),
            None => Ok(()),
        }
    }

    fn insert(&mut self, number: i64, batch: &mut Vec<(Key, u64)>) -> rusqlite::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.sort_unstable();
        let transaction = self.db.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO entries(key, file, id) VALUES(?,?,?)")?;
            for (key, id) in batch.iter() {
                insert.execute(params![&key[..], number, *id as i64])?;
            }
        }
        transaction.commit()?;
        batch.clear();
        self.empty = false;
        Ok(())
    }

    /// All of our records are in the index.
    pub fn whole(&mut self) -> Result<(), String> {
        match self.own {
            Some(number) => self.db.execute("UPDATE files SET whole=1 WHERE number=?", [number]).map(drop).map_err(words),
            None => Ok(()),
        }
    }

    /// The reply that some run got for this request. What cannot be read is a miss.
    pub fn find(&mut self, key: &Key) -> Option<Found> {
        if self.empty {
            return None;
        }
        let (file, id) = self.place(key).ok().flatten()?;
        self.reader(file)?.find(id as u64, key).ok().flatten()
    }

    fn place(&self, key: &Key) -> rusqlite::Result<Option<(i64, i64)>> {
        self.db
            .prepare_cached("SELECT file, id FROM entries WHERE key=?")
            .and_then(|mut statement| statement.query_row([&key[..]], |row| Ok((row.get(0)?, row.get(1)?))).optional())
    }

    /// A file that is gone, damaged or of another version is a miss, too.
    fn reader(&mut self, file: i64) -> Option<&Records> {
        match self.readers.iter().rposition(|(number, _)| *number == file) {
            Some(at) if at + 1 == self.readers.len() => {}
            Some(at) => {
                let reader = self.readers.remove(at);
                self.readers.push(reader);
            }
            None => {
                let path = self.db.query_row("SELECT path FROM files WHERE number=?", [file], |row| row.get::<_, String>(0));
                if self.readers.len() >= READERS {
                    self.readers.remove(0);
                }
                self.readers.push((file, path.ok().and_then(|path| Records::read(&path).ok())));
            }
        }
        self.readers.last().and_then(|(_, records)| records.as_ref())
    }

    /// Close the records files, of which one may be our own.
    pub fn release(&mut self) {
        self.readers.clear();
    }
}

/// What a cache file holds.
#[derive(Debug, Default, serde::Serialize)]
pub struct Size {
    pub entries: u64,
    /// Of the records files that it points to.
    pub bytes: u64,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<i64>,
}

fn file_bytes(path: &str) -> u64 {
    ["", "-wal"].iter().filter_map(|end| std::fs::metadata(format!("{path}{end}")).ok()).map(|meta| meta.len()).sum()
}

/// Count what a cache points to. A file that does not exist is an empty cache.
pub fn stats(path: &str) -> Result<Size, String> {
    if !std::path::Path::new(path).exists() {
        return Ok(Size::default());
    }
    let db = Connection::open(path).map_err(words)?;
    db.execute_batch(SCHEMA).map_err(words)?;
    let mut size = Size {
        entries: db.query_row("SELECT COUNT(*) FROM entries", [], |row| row.get::<_, i64>(0)).map_err(words)? as u64,
        ..Size::default()
    };
    let mut statement = db.prepare("SELECT path, used FROM files").map_err(words)?;
    let files = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).map_err(words)?;
    for file in files {
        let (path, used) = file.map_err(words)?;
        size.bytes += file_bytes(&path);
        size.oldest = Some(size.oldest.map_or(used, |old| old.min(used)));
        size.newest = Some(size.newest.map_or(used, |old| old.max(used)));
    }
    Ok(size)
}

/// Forget the replies of runs that ended longer ago than `older_than`, then of the oldest runs until
/// at most `larger_than` bytes are left. Records of runs that still go on, or that `keep` names, stay.
pub fn prune(path: &str, older_than: Option<Duration>, larger_than: Option<u64>, keep: &[String]) -> Result<Size, String> {
    let mut removed = Size::default();
    if !std::path::Path::new(path).exists() {
        return Ok(removed);
    }
    let mut cache = Cache::open(path, None)?;
    let files: Vec<(i64, String, i64)> = {
        let mut statement = cache.db.prepare("SELECT number, path, used FROM files ORDER BY used").map_err(words)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(words)?;
        rows.collect::<rusqlite::Result<_>>().map_err(words)?
    };
    let mut left: u64 = files.iter().map(|(_, path, _)| file_bytes(path)).sum();
    let oldest = older_than.map(|age| now().saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX)));
    for (number, path, used) in files {
        let aged = oldest.is_some_and(|oldest| used < oldest);
        let crowded = larger_than.is_some_and(|most| left > most);
        if !(aged || crowded) || keep.contains(&path) {
            continue;
        }
        let Ok(Some(_lock)) = FileLock::take(&path) else { continue };
        let bytes = file_bytes(&path);
        removed.entries +=
            cache.db.query_row("SELECT COUNT(*) FROM entries WHERE file=?", [number], |row| row.get::<_, i64>(0)).map_err(words)? as u64;
        removed.bytes += bytes;
        left = left.saturating_sub(bytes);
        cache.forget_file(number).map_err(words)?;
        for end in ["", "-wal", "-shm", ".lock"] {
            // What is gone already need not be removed.
            let _ = std::fs::remove_file(format!("{path}{end}"));
        }
    }
    Ok(removed)
}
