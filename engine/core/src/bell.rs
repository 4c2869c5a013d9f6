//! File descriptors that are readable while something waits, for event loops.

use crate::shared::lock;
use std::sync::Mutex;

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

/// Which streams have something new, each named once until it is read.
#[derive(Debug, Default)]
pub struct Ready(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    ids: Vec<u64>,
    bell: Option<Bell>,
}

impl Ready {
    pub fn add(&self, id: u64) {
        let mut waiting = lock(&self.0);
        waiting.ids.push(id);
        if let Some(bell) = waiting.bell.as_ref().filter(|_| waiting.ids.len() == 1) {
            bell.ring();
        }
    }

    /// Those that have been named since the last call.
    pub fn take(&self) -> Vec<u64> {
        let mut waiting = lock(&self.0);
        if let Some(bell) = &waiting.bell {
            bell.hush();
        }
        std::mem::take(&mut waiting.ids)
    }

    /// Wake who waits, so that it looks again.
    pub fn wake(&self) {
        if let Some(bell) = &lock(&self.0).bell {
            bell.ring();
        }
    }

    #[cfg(unix)]
    pub fn descriptor(&self) -> std::io::Result<i32> {
        let mut waiting = lock(&self.0);
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
