//! The server's thread: it listens, and each connection is a task.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::faults::Faults;
use crate::http;
use crate::service::Model;
use crate::stats::Counters;

const BACKLOG: u32 = 4096;
/// How long to wait when the system has no room for another connection.
const FULL: Duration = Duration::from_millis(10);

/// What to rehearse, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address or host name to listen on.
    pub host: String,
    /// 0: any free one.
    pub port: u16,
    /// How long each answer takes.
    pub latency: Duration,
    /// What goes wrong, and how often.
    pub errors: Faults,
    /// More requests than this at once are answered with 429.
    pub limit: Option<u64>,
    /// Another seed, other answers and other faults.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), port: 0, latency: Duration::ZERO, errors: Faults::default(), limit: None, seed: 0 }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    host: String,
    port: u16,
    latency_ms: f64,
    errors: HashMap<String, f64>,
    limit: Option<u64>,
    seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        let Options { host, port, limit, seed, .. } = Options::default();
        Self { host, port, latency_ms: 0.0, errors: HashMap::new(), limit, seed }
    }
}

impl Options {
    /// From JSON: `{host, port, latency_ms, errors: {name: fraction}, limit, seed}`, all optional.
    ///
    /// # Errors
    /// In words: JSON that is none, unknown fields, values out of their range.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let config: Config = serde_json::from_str(text).map_err(|error| format!("the rehearsal's options: {error}"))?;
        if !(0.0..=3_600_000.0).contains(&config.latency_ms) {
            return Err(format!("a latency of {} ms is not from 0 to one hour", config.latency_ms));
        }
        if config.limit == Some(0) {
            return Err("a limit of 0 would answer nothing; the smallest is 1".into());
        }
        // In the order of their names, so that a seed means the same however the map was written.
        let mut errors: Vec<_> = config.errors.iter().map(|(name, &fraction)| (name.as_str(), fraction)).collect();
        errors.sort_by(|one, other| one.0.cmp(other.0));
        Ok(Self {
            host: config.host,
            port: config.port,
            latency: Duration::from_secs_f64(config.latency_ms / 1000.0),
            errors: Faults::new(errors)?,
            limit: config.limit,
            seed: config.seed,
        })
    }
}

/// The rehearsal model, before it has started.
pub struct Server;

impl Server {
    /// Listens, and answers on a thread of its own until the handle is stopped or dropped.
    ///
    /// # Errors
    /// In words, when the address cannot be listened on.
    pub fn start(options: Options) -> Result<Handle, String> {
        let place = format!("{}:{}", options.host, options.port);
        let failed = |error: std::io::Error| format!("cannot listen on {place}: {error}");
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let addresses = (options.host.as_str(), options.port).to_socket_addrs().map_err(failed)?;
        let listener = runtime.block_on(async { listen(addresses) }).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let counters = Arc::new(Counters::default());
        let model = Arc::new(Model::new(options, Arc::clone(&counters)));
        let (stop, stopped) = oneshot::channel();
        let thread =
            thread::Builder::new().name("rehearsal".into()).spawn(move || run(&runtime, listener, model, stopped)).map_err(failed)?;
        Ok(Handle { port, counters, running: Some((stop, thread)) })
    }
}

fn listen(addresses: impl Iterator<Item = SocketAddr>) -> std::io::Result<TcpListener> {
    let mut last = std::io::Error::other("the host has no address");
    for address in addresses {
        let open = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            #[cfg(unix)]
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match open() {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Accepts until it is stopped; dropping the runtime then ends the connections.
fn run(runtime: &Runtime, listener: TcpListener, model: Arc<Model>, mut stopped: oneshot::Receiver<()>) {
    runtime.block_on(async {
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                _ = &mut stopped => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(FULL).await;
                continue;
            };
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            model.counters().connected();
            let model = Arc::clone(&model);
            // An error here is the client's: it has gone.
            tokio::spawn(async move { http::serve(stream, &*model).await.ok() });
        }
    });
}

/// A running server; dropping it stops it.
pub struct Handle {
    port: u16,
    counters: Arc<Counters>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What it has counted, as JSON; also after it was stopped.
    #[must_use]
    pub fn stats(&self) -> String {
        self.counters.json()
    }

    /// Closes all connections and waits for the thread's end.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // A panic there has nothing left to harm.
            thread.join().ok();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_what_is_wrong_with_them() {
        let says = |text| Options::from_json(text).unwrap_err();
        assert_eq!(says(r#"{"latency_ms": -1}"#), "a latency of -1 ms is not from 0 to one hour");
        assert_eq!(says(r#"{"limit": 0}"#), "a limit of 0 would answer nothing; the smallest is 1");
        assert!(says(r#"{"ports": 1}"#).starts_with("the rehearsal's options: unknown field `ports`"));
        assert!(says(r#"{"errors": {"oops": 0.5}}"#).starts_with("there is no fault \"oops\"; there are 429,"));
        let options = Options::from_json(r#"{"latency_ms": 2.5, "seed": 3}"#).unwrap();
        assert_eq!((options.latency, options.seed), (Duration::from_micros(2500), 3));
    }

    #[test]
    fn an_address_that_cannot_be_had_is_said() {
        let first = Server::start(Options::default()).unwrap();
        let again = Server::start(Options { port: first.port(), ..Options::default() });
        let said = again.err().unwrap();
        assert!(said.starts_with(&format!("cannot listen on 127.0.0.1:{}: Address already in use", first.port())), "{said}");
    }

    #[test]
    fn stopping_twice_is_stopping_once() {
        let mut server = Server::start(Options::default()).unwrap();
        server.stop();
        server.stop();
        assert!(std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err());
        assert!(server.stats().contains("\"requests\":0"));
    }
}
