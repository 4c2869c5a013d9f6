//! The rehearsal model: an OpenAI-compatible server that answers at once, from nothing.
//!
//! No weights, no key, no network: what it writes is a function of a seed and of the request alone.
//! Free text reads as English, JSON follows the schema that was asked for, and faults happen as
//! often as they are ordered. It must outrun the engine that it is tried with, so it is one thread
//! with one loop: no lock is waited for and nothing is computed twice that a request shares with
//! the one before.
//!
//! ```no_run
//! let server = wordmill_rehearsal::Server::start(wordmill_rehearsal::Options::default())?;
//! println!("http://127.0.0.1:{}/v1", server.port());
//! # Ok::<(), String>(())
//! ```

mod brief;
mod cache;
mod chat;
mod completions;
mod compose;
mod embeddings;
mod faults;
mod forms;
mod http;
mod json;
mod lexicon;
mod marks;
mod prose;
mod random;
mod render;
mod request;
mod responses;
mod schema;
mod server;
mod service;
mod stats;
mod terms;
mod tools;
mod vocabulary;
mod words;
mod wrong;

pub use faults::{Fault, Faults};
pub use server::{Handle, Options, Server};
