//! One streamed answer between the engine and its reader: pieces of text, the same record at the end.

use crate::bell::Ready;
use crate::record::Outcome;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bytes that wait for their reader: with more the answer is not read on.
const UNREAD: usize = 1 << 20;

/// What the engine and the reader of a stream share.
#[derive(Debug, Default)]
struct Shared {
    id: u64,
    /// The answer is asked for in one piece.
    whole: bool,
    ready: Arc<Ready>,
    state: Mutex<State>,
    changed: Condvar,
    cancelled: AtomicBool,
    cancel: Notify,
    /// The reader has read.
    read: Notify,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<String>,
    reasoning: String,
    /// Bytes of the pieces.
    unread: usize,
    outcome: Option<Outcome>,
    ended: bool,
    /// It was named since it was last read.
    named: bool,
    /// Nobody reads it any more.
    left: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        crate::shared::lock(&self.state)
    }

    fn took(&self, state: &mut State, bytes: usize) {
        let full = state.unread >= UNREAD;
        state.unread -= bytes;
        if full {
            self.read.notify_waiters();
        }
    }
}

/// The engine's end.
#[derive(Clone, Debug, Default)]
pub struct Feed(Arc<Shared>);

/// The reader's end. Dropping it cancels the request.
#[derive(Debug)]
pub struct Stream(Arc<Shared>);

/// A pair that belongs together. What is new in it is told to `ready`, by its number.
pub(crate) fn pair(id: u64, whole: bool, ready: Arc<Ready>) -> (Feed, Stream) {
    let feed = Feed(Arc::new(Shared { id, whole, ready, ..Shared::default() }));
    let stream = Stream(feed.0.clone());
    (feed, stream)
}

impl Feed {
    pub(crate) fn text(&self, piece: String) {
        self.with(|state| {
            state.unread += piece.len();
            state.pieces.push_back(piece);
        });
    }

    pub(crate) fn reasoning(&self, piece: &str) {
        self.with(|state| state.reasoning.push_str(piece));
    }

    pub(crate) fn end(&self, outcome: Outcome) {
        self.with(|state| {
            state.outcome = Some(outcome);
            state.ended = true;
        });
    }

    pub(crate) fn whole(&self) -> bool {
        self.0.whole
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Too much waits for its reader.
    pub(crate) fn full(&self) -> bool {
        self.0.lock().unread >= UNREAD
    }

    /// Ends when the reader has made room.
    pub(crate) async fn room(&self) {
        loop {
            let waiting = self.0.read.notified();
            if !self.full() {
                return;
            }
            waiting.await;
        }
    }

    /// Ends when the reader cancels.
    pub(crate) async fn cancel(&self) {
        let waiting = self.0.cancel.notified();
        if !self.cancelled() {
            waiting.await;
        }
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        self.0.changed.notify_all();
        if !state.left && !std::mem::replace(&mut state.named, true) {
            self.0.ready.add(self.0.id);
        }
    }
}

/// What `Stream::next` found.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Text(String),
    /// Nothing within the time.
    Later,
    End,
}

impl Stream {
    /// Its number, by which the engine names it when something is new.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The text that has come since the last call, waiting up to `timeout` for some.
    pub fn next(&self, timeout: Duration) -> Next {
        let until = Instant::now() + timeout;
        let mut state = self.0.lock();
        loop {
            state.named = false;
            if !state.pieces.is_empty() {
                let text: String = state.pieces.drain(..).collect();
                self.0.took(&mut state, text.len());
                return Next::Text(text);
            }
            if state.ended {
                return Next::End;
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Next::Later;
            };
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    /// Reasoning that has come since the last call.
    pub fn reasoning(&self) -> String {
        std::mem::take(&mut self.0.lock().reasoning)
    }

    /// The record, once, after the end.
    pub fn take_outcome(&self) -> Option<Outcome> {
        self.0.lock().outcome.take()
    }

    /// Close the upstream connection.
    pub fn cancel(&self) {
        if self.0.lock().ended || self.0.cancelled.swap(true, Ordering::AcqRel) {
            return;
        }
        self.0.cancel.notify_waiters();
        self.0.ready.cancelled();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel();
        self.0.lock().left = true;
        self.0.ready.forget(self.0.id);
    }
}
