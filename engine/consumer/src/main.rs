//! `wordmill-consumer`: takes blocks of batches from RabbitMQ and answers them.
//!
//! ```text
//! RabbitMQ -> broker (references to blocks) -> house (slots) -> work (a block: taken, read, answered, kept)
//!     -> session (a batch: its engine and its blocks) -> bulk -> Elasticsearch
//! PostgreSQL: whose a block is, what became of it      storage: requests in, segments out
//! ```
//!
//! A message is only a hint that a block waits: who holds it stands in PostgreSQL, with a lease and
//! a fence. What Elasticsearch has confirmed is never asked again.

mod broker;
mod bulk;
mod check;
mod counts;
mod database;
mod document;
mod elastic;
mod grants;
mod health;
mod house;
mod http;
mod log;
mod plan;
mod secrets;
mod session;
mod settings;
mod state;
mod storage;
mod work;

use settings::{Order, Settings};
use std::process::ExitCode;

/// Replies are made by one thread and freed by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (settings, order) = match Settings::read(std::env::args().skip(1), &|name| std::env::var(name).ok()) {
        Ok(read) => read,
        Err(words) => {
            eprintln!("{words}");
            return ExitCode::from(2);
        }
    };
    match order {
        Order::Say(words) => {
            println!("{words}");
            return ExitCode::SUCCESS;
        }
        Order::Check | Order::Run => {}
    }
    wordmill_core::system::give_way();
    log::begin(settings.log_form);
    for secret in settings.secrets() {
        log::hide(&secret);
    }
    // Whoever comes first installs it; both would be the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("The system refuses what the consumer needs to run: {error}.");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        match order {
            Order::Check => check::run(&settings).await,
            _ => house::run(settings).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("{words}");
            ExitCode::FAILURE
        }
    }
}
