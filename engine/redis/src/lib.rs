//! What engines of several processes share, in Redis: limits, pauses and cached answers.
//!
//! ```text
//! let engine: wordmill_core::Engine = wordmill_redis::start(config)?;      // in place of Engine::start(config)
//! engine.metrics()["shared"]      // null, or {"works": bool, "words": null | why not, "processes": n, ...}
//! wordmill_redis::check(url)?     // {"version", "warnings": [...]} of a server; the error says why it is not reached
//! ```
//!
//! `config.shared` says where: `{"redis": URL, "answers": bool}`; none shares within this process alone
//! (`start` then does what `Engine::start` does). The engines of a process use one link for each URL, opened
//! with the first engine. Nothing here is ever waited for by an engine's thread, and a Redis that is away, or
//! has lost everything, makes no request fail.
//!
//! Keys begin with `wordmill:1:` and hold digests only; `share` in the core says how limits are held together.

mod answers;
mod link;
mod server;
mod value;

use answers::Store;
use link::Linked;
use serde_json::Value;
pub use server::check;
use server::Server;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use wordmill_core::commons::Commons;
use wordmill_core::config::Config;
use wordmill_core::Engine;

/// An engine that shares what its configuration says. The error is a sentence.
pub fn start(config: Config) -> Result<Engine, String> {
    match &config.shared {
        None => Engine::start(config),
        Some(shared) => {
            let commons = commons(&shared.redis)?;
            Engine::start_in(config, commons)
        }
    }
}

/// The open links of this process; a child that was forked opens its own.
struct Known {
    process: u32,
    url: String,
    commons: Weak<Commons>,
}

static LINKS: Mutex<Vec<Known>> = Mutex::new(Vec::new());

fn links() -> MutexGuard<'static, Vec<Known>> {
    LINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the engines of this process have in common with those of others.
pub fn commons(url: &str) -> Result<Arc<Commons>, String> {
    let process = std::process::id();
    let mut links = links();
    links.retain(|known| known.process == process && known.commons.strong_count() > 0);
    let known = links.iter().find(|known| known.url == url);
    if let Some(commons) = known.and_then(|known| known.commons.upgrade()) {
        return Ok(commons);
    }
    let server = Server::new(url)?;
    let facts = Arc::default();
    let store = Store::open(server.clone(), Arc::clone(&facts))?;
    let linked = Arc::new(Linked::new(facts));
    let commons = Arc::new(Commons::linked(linked.clone(), Arc::new(store)));
    link::spawn(server, linked, commons.clone())?;
    links.push(Known { process, url: url.into(), commons: Arc::downgrade(&commons) });
    Ok(commons)
}

/// What the engines of this process that use a link did; as `shared` in their metrics.
pub fn state(url: &str) -> Option<Value> {
    let process = std::process::id();
    let commons = links().iter().find(|known| known.process == process && known.url == url)?.commons.upgrade()?;
    commons.link.as_ref().map(|link| link.state())
}

/// Forget a link that nobody but its own thread holds; whether it is forgotten.
fn unneeded(commons: &Arc<Commons>) -> bool {
    let mut links = links();
    if Arc::strong_count(commons) > 1 {
        return false;
    }
    links.retain(|known| !std::ptr::eq(known.commons.as_ptr(), Arc::as_ptr(commons)));
    true
}
