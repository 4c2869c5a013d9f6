//! The request engine: many requests in, exactly one record each out.
//!
//! ```text
//! Source (a caller's batches, a JSONL file)
//!    -> Dispatcher (lanes: connections, limits, retries, breaker; budget; joined requests)
//!    -> Sink (the writer: SQLite, then the caller)
//! ```
//!
//! A source is pulled only as fast as its lane can send, and a record is reported only when it is
//! durable. So memory is bounded, and a crash repeats at most what was out.

mod attempt;
mod bell;
pub mod budget;
pub mod cache;
mod collect;
pub mod config;
mod dispatcher;
mod ending;
mod engine;
mod http;
pub mod json;
mod lane;
pub mod limits;
pub mod metrics;
mod offer;
pub mod record;
pub mod reply;
pub mod retry;
pub mod shape;
mod shared;
mod store;
pub mod stream;
mod watch;
mod writer;

pub use engine::Engine;
pub use shared::panic_words;
