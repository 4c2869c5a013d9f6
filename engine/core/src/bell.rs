//! File descriptors that are readable while something waits, for event loops.

use crate::shared::lock;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// A pair of sockets: readable while something waits.
#[derive(Debug)]
pub struct Bell {
    #[cfg(unix)]
    reader: std::os::unix::net::UnixStream,
    #[cfg(unix)]
    writer: std::os::unix::net::UnixStream,
}

impl Bell {
    #[cfg(unix)]
    pub fn new() -> std::io::Result<Self> {
        let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Bell { reader, writer })
    }

    pub fn ring(&self) {
        #[cfg(unix)]
        {
            // Full means that it rings already.
            let _ = std::io::Write::write(&mut &self.writer, &[1]);
        }
    }

    pub fn hush(&self) {
        #[cfg(unix)]
        {
            let mut drained = [0; 256];
            while std::io::Read::read(&mut &self.reader, &mut drained).is_ok_and(|n| n == drained.len()) {}
        }
    }

    /// Readable while it rings.
    #[cfg(unix)]
    pub fn descriptor(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.reader.as_raw_fd()
    }
}

/// Which streams have something new, each named once until it is asked for; and that some were cancelled.
#[derive(Debug, Default)]
pub struct Ready {
    waiting: Mutex<Waiting>,
    cancelled: AtomicBool,
    /// The engine's thread, which looks for those that were cancelled.
    engine: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    ids: BTreeSet<u64>,
    bell: Option<Bell>,
}

impl Ready {
    pub fn new(engine: Arc<Notify>) -> Self {
        Ready { engine, ..Ready::default() }
    }

    pub fn add(&self, id: u64) {
        let mut waiting = lock(&self.waiting);
        let first = waiting.ids.is_empty();
        waiting.ids.insert(id);
        if let Some(bell) = waiting.bell.as_ref().filter(|_| first) {
            bell.ring();
        }
    }

    /// Nobody will read it any more.
    pub fn forget(&self, id: u64) {
        lock(&self.waiting).ids.remove(&id);
    }

    /// Those that have been named since the last call.
    pub fn take(&self) -> Vec<u64> {
        let mut waiting = lock(&self.waiting);
        if let Some(bell) = &waiting.bell {
            bell.hush();
        }
        std::mem::take(&mut waiting.ids).into_iter().collect()
    }

    /// Wake who waits, so that it looks again.
    pub fn wake(&self) {
        if let Some(bell) = &lock(&self.waiting).bell {
            bell.ring();
        }
    }

    /// A stream was cancelled, wherever it stands.
    pub fn cancelled(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.engine.notify_one();
    }

    /// Some were cancelled since the last call.
    pub fn some_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) && self.cancelled.swap(false, Ordering::AcqRel)
    }

    #[cfg(unix)]
    pub fn descriptor(&self) -> std::io::Result<i32> {
        let mut waiting = lock(&self.waiting);
        if waiting.bell.is_none() {
            let bell = Bell::new()?;
            if !waiting.ids.is_empty() {
                bell.ring();
            }
            waiting.bell = Some(bell);
        }
        Ok(waiting.bell.as_ref().map_or(-1, Bell::descriptor))
    }
}
