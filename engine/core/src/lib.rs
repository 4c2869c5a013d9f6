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

pub mod address;
mod attempt;
mod auto;
mod bell;
mod bucket;
pub mod budget;
pub mod cache;
mod collect;
pub mod commons;
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
pub mod share;
mod shared;
mod store;
pub mod stream;
pub mod system;
mod watch;
mod writer;

pub use engine::Engine;
pub use shared::panic_words;
