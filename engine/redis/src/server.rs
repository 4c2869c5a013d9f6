//! One Redis server: how it is reached, and what is to be said about it.

use redis::{Connection, ConnectionLike, ErrorKind, RedisError};
use serde_json::{json, Value};
use std::time::Duration;

/// Where keys stand; the number goes up when what they hold changes.
pub const PREFIX: &str = "wordmill:1:";

/// How a server is reached. Says its address in words, never its password.
#[derive(Clone)]
pub struct Server {
    client: redis::Client,
    place: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place)
    }
}

impl Server {
    /// Nothing is opened. The error does not repeat the address: it may hold a password.
    pub fn new(url: &str) -> Result<Self, String> {
        // Another part of the process may have chosen one; both are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = redis::Client::open(url)
            .map_err(|error| format!("the address of Redis is not understood ({error}); it is like redis://:password@host:6379/0"))?;
        let place = format!("Redis at {}", client.get_connection_info().addr());
        Ok(Server { client, place })
    }

    /// Each step takes as long as `patience` at most.
    pub fn connect(&self, patience: Duration) -> Result<Connection, String> {
        let open = || {
            let connection = self.client.get_connection_with_timeout(patience)?;
            connection.set_read_timeout(Some(patience))?;
            connection.set_write_timeout(Some(patience))?;
            Ok(connection)
        };
        open().map_err(|error| self.words(&error))
    }

    pub fn words(&self, error: &RedisError) -> String {
        if error.is_timeout() {
            return format!("{} does not answer in time", self.place);
        }
        match error.kind() {
            ErrorKind::AuthenticationFailed => format!("{} refuses the password: {error}", self.place),
            _ => format!("{}: {error}", self.place),
        }
    }
}

/// The value of a line `name:value` in what INFO says.
fn fact<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// What is to be known about a server: its version, and sentences on settings that do not suit.
///
/// The error says in a sentence why it is not reached. Takes two seconds at most.
pub fn check(url: &str) -> Result<Value, String> {
    let server = Server::new(url)?;
    let mut connection = server.connect(Duration::from_secs(1))?;
    let info = connection.req_command(&redis::cmd("INFO")).and_then(|value| Ok(redis::from_redis_value::<String>(value)?));
    let info = info.map_err(|error| server.words(&error))?;
    let mut warnings = Vec::new();
    if fact(&info, "aof_enabled") == Some("0") {
        warnings.push(format!(
            "{} keeps no append-only file (appendonly no): after a crash it has lost the jobs in its queues; limits and answers \
             are found again. Set `appendonly yes`.",
            server.place
        ));
    }
    if let Some(policy) = fact(&info, "maxmemory_policy").filter(|policy| *policy != "noeviction") {
        warnings.push(format!(
            "{} forgets what it likes when its memory is full (maxmemory-policy {policy}), jobs too. Set `maxmemory-policy noeviction`.",
            server.place
        ));
    }
    Ok(json!({"version": fact(&info, "redis_version"), "warnings": warnings}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_repeats_an_address() {
        for url in ["redis://:secret@", "secret", "http://:secret@h", "redis://:secret@h:99999/0", "redis://:secret@h/x"] {
            let words = Server::new(url).unwrap_err();
            assert!(!words.contains("secret") && words.starts_with("the address of Redis is not understood"), "{words}");
        }
        assert_eq!(format!("{:?}", Server::new("redis://:secret@h:1/0").unwrap()), "Redis at h:1");
    }

    #[test]
    fn what_info_says_is_read_by_the_line() {
        let info = "# Memory\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0\r\n";
        assert_eq!((fact(info, "maxmemory_policy"), fact(info, "aof_enabled"), fact(info, "aof")), (Some("allkeys-lru"), Some("0"), None));
    }
}
