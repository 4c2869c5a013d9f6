//! Settings: flags of the command line, then `WORDMILL_*`, then the files that `WORDMILL_*_FILE` name.

use crate::log::Form;
use std::path::PathBuf;
use std::time::Duration;

/// What the command line asks for.
pub enum Order {
    Run,
    /// Try every connection.
    Check,
    /// Help, or the version.
    Say(String),
}

/// The values. Made by `read`.
pub struct Settings {
    pub database_url: String,
    pub broker_url: String,
    pub elasticsearch_url: String,
    pub redis_url: String,
    pub storage_url: String,
    pub home: PathBuf,
    pub secret_key: String,
    /// Blocks that are under way.
    pub blocks: usize,
    /// Blocks of one queue that wait here for a slot.
    pub prefetch: u16,
    /// So long one block may be under way before it goes to the back of its queue.
    pub block_time: Duration,
    /// So long what is under way may go on after SIGTERM.
    pub grace: Duration,
    /// A reply waits at most so long for others before it is written.
    pub bulk_delay: Duration,
    /// Most bytes of one `_bulk`.
    pub bulk_bytes: usize,
    /// Most requests that are sent, or answered, and not confirmed by Elasticsearch.
    pub in_doubt: usize,
    /// How often a block is taken before it counts as poison.
    pub attempts: i32,
    /// Where health and metrics are told; None: nowhere.
    pub health: Option<String>,
    pub log_form: Form,
}

struct Row {
    name: &'static str,
    default: &'static str,
    /// It may come from a file, and is never shown.
    secret: bool,
    help: &'static str,
}

const fn row(name: &'static str, default: &'static str, help: &'static str) -> Row {
    Row { name, default, secret: false, help }
}

const fn secret(name: &'static str, help: &'static str) -> Row {
    Row { name, default: "", secret: true, help }
}

const ROWS: [Row; 17] = [
    secret("database_url", "PostgreSQL, as postgresql://user:password@host/name"),
    secret("broker_url", "RabbitMQ, as amqp://user:password@host:5672/"),
    secret("elasticsearch_url", "Elasticsearch, as https://user:password@host:9200"),
    secret("redis_url", "Redis, as redis://:password@host:6379/0; empty: limits are this process's own"),
    secret("storage_url", "s3://bucket/path; empty: the data folder"),
    row("home", "", "the data folder, which serve and consumers share"),
    secret("secret_key", "opens stored keys of providers; empty: secret.key in the data folder does"),
    row("consumer_blocks", "8", "blocks at once"),
    row("consumer_prefetch", "2", "blocks of one queue that wait here for a slot"),
    row("consumer_block_seconds", "60", "so long one block is under way before it goes to the back of its queue"),
    row("consumer_grace_seconds", "20", "so long requests that are out may go on after SIGTERM"),
    row("consumer_bulk_milliseconds", "400", "so long a reply waits for others before it is written"),
    row("consumer_bulk_bytes", "4194304", "most bytes of one _bulk"),
    row("consumer_in_doubt", "8192", "most requests that are sent, or answered, and not confirmed by Elasticsearch"),
    row("consumer_attempts", "5", "how often a block is taken before it counts as poison"),
    row("consumer_health", "", "an address for health and metrics, as 127.0.0.1:9090"),
    row("log_format", "json", "json or pretty"),
];

impl Settings {
    /// `variable`: of the environment. The error is a sentence.
    pub fn read(arguments: impl Iterator<Item = String>, variable: &dyn Fn(&str) -> Option<String>) -> Result<(Settings, Order), String> {
        let (flags, order) = flags(arguments)?;
        let mut values = Vec::new();
        for row in &ROWS {
            values.push((row.name, value(row, &flags, variable)?));
        }
        let text = |name: &str| values.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone()).unwrap_or_default();
        let number = |name: &str, least: f64, most: f64| {
            let value = text(name);
            value
                .parse::<f64>()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| format!("{} is a number from {least} to {most}, not {value:?}.", flag(name)))
        };
        let settings = Settings {
            database_url: text("database_url"),
            broker_url: text("broker_url"),
            elasticsearch_url: text("elasticsearch_url"),
            redis_url: text("redis_url"),
            storage_url: text("storage_url"),
            home: home(&text("home"), variable),
            secret_key: text("secret_key"),
            blocks: number("consumer_blocks", 1.0, 256.0)? as usize,
            prefetch: number("consumer_prefetch", 1.0, 16.0)? as u16,
            block_time: Duration::from_secs_f64(number("consumer_block_seconds", 0.1, 300.0)?),
            grace: Duration::from_secs_f64(number("consumer_grace_seconds", 0.0, 600.0)?),
            bulk_delay: Duration::from_secs_f64(number("consumer_bulk_milliseconds", 0.0, 500.0)? / 1000.0),
            bulk_bytes: number("consumer_bulk_bytes", 65_536.0, 67_108_864.0)? as usize,
            in_doubt: number("consumer_in_doubt", 1.0, 1_000_000.0)? as usize,
            attempts: number("consumer_attempts", 1.0, 1000.0)? as i32,
            health: Some(text("consumer_health")).filter(|address| !address.is_empty()),
            log_form: match text("log_format").as_str() {
                "json" => Form::Json,
                "pretty" => Form::Pretty,
                other => return Err(format!("--log-format is json or pretty, not {other:?}.")),
            },
        };
        if !matches!(order, Order::Say(_)) {
            settings.checked()?;
        }
        Ok((settings, order))
    }

    fn checked(&self) -> Result<(), String> {
        for (name, value, schemes) in [
            ("database_url", &self.database_url, &["postgresql", "postgres", "postgresql+psycopg"][..]),
            ("broker_url", &self.broker_url, &["amqp", "amqps"]),
            ("elasticsearch_url", &self.elasticsearch_url, &["http", "https"]),
        ] {
            let scheme = value.split("://").next().unwrap_or_default();
            if value.is_empty() {
                return Err(format!("{} is not set: the consumer needs it. See wordmill-consumer --help.", flag(name)));
            }
            if !value.contains("://") || !schemes.contains(&scheme) {
                return Err(format!("{} begins with {}://, and this one does not.", flag(name), schemes[0]));
            }
        }
        if !self.storage_url.is_empty() && !self.storage_url.starts_with("s3://") {
            return Err("--storage-url is s3://bucket/path, or empty for the data folder.".into());
        }
        if !self.secret_key.is_empty() && self.secret_key.chars().count() < 32 {
            return Err("WORDMILL_SECRET_KEY has at least 32 characters.".into());
        }
        Ok(())
    }

    /// What no log may hold.
    pub fn secrets(&self) -> Vec<String> {
        let mut all = vec![self.secret_key.clone()];
        for url in [&self.database_url, &self.broker_url, &self.elasticsearch_url, &self.redis_url, &self.storage_url] {
            if let Some(password) = password(url) {
                all.push(unescaped(password));
                all.push(password.to_string());
            }
        }
        all.retain(|secret| !secret.is_empty());
        all
    }
}

/// The password in an address, as it is written there.
fn password(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    Some(authority.rsplit_once('@')?.0.split_once(':')?.1)
}

/// A part of an address without its percent escapes.
pub fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, more)) = rest.split_first() {
        let escaped = more.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = more;
        match escaped.filter(|_| *byte == b'%') {
            Some(value) => {
                out.push(value);
                rest = &more[2..];
            }
            None => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn flag(name: &str) -> String {
    format!("--{}", name.trim_start_matches("consumer_").replace('_', "-"))
}

/// Settings by their names, as the command line has them.
type Flags = Vec<(&'static str, String)>;

fn flags(arguments: impl Iterator<Item = String>) -> Result<(Flags, Order), String> {
    let (mut found, mut order) = (Vec::new(), Order::Run);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok((Vec::new(), Order::Say(help()))),
            "--version" => return Ok((Vec::new(), Order::Say(concat!("wordmill-consumer ", env!("CARGO_PKG_VERSION")).into()))),
            "--check" => {
                order = Order::Check;
                continue;
            }
            _ => {}
        }
        let (name, given) = match argument.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (argument.clone(), None),
        };
        let row = ROWS
            .iter()
            .find(|row| flag(row.name) == name)
            .ok_or_else(|| format!("wordmill-consumer does not know {name:?}: wordmill-consumer --help lists what it knows."))?;
        let value = given.or_else(|| arguments.next()).ok_or_else(|| format!("{name} wants a value."))?;
        found.push((row.name, value));
    }
    Ok((found, order))
}

fn value(row: &Row, flags: &[(&str, String)], variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let own = format!("WORDMILL_{}", row.name.to_uppercase());
    if let Some((_, value)) = flags.iter().rev().find(|(name, _)| *name == row.name) {
        return Ok(value.trim().into());
    }
    if let Some(value) = variable(&own).filter(|value| !value.trim().is_empty()) {
        return Ok(value.trim().into());
    }
    let file = format!("{own}_FILE");
    match variable(&file).filter(|path| row.secret && !path.is_empty()) {
        Some(path) => {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{file} names {path:?}, which cannot be read: {error}."))?;
            Ok(text.trim().into())
        }
        None => Ok(row.default.into()),
    }
}

/// As Python's platformdirs finds it.
fn home(given: &str, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    if !given.is_empty() {
        return given.into();
    }
    match variable("XDG_DATA_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder).join("wordmill"),
        None => PathBuf::from(variable("HOME").unwrap_or_else(|| "/".into())).join(".local/share/wordmill"),
    }
}

fn help() -> String {
    let mut text = String::from(
        "wordmill-consumer takes blocks of batches from RabbitMQ and answers them.\n\n\
         wordmill-consumer [--check] [--NAME VALUE ...]\n\n  \
         --check  try every connection and say what is wrong\n  --version\n  --help\n\n\
         Each setting is a flag, or a variable of the environment; secrets may lie in files.\n",
    );
    for row in &ROWS {
        let default = if row.default.is_empty() { String::new() } else { format!(" ({})", row.default) };
        let file = if row.secret { " [_FILE]" } else { "" };
        text.push_str(&format!("\n  {}  WORDMILL_{}{file}\n      {}{default}\n", flag(row.name), row.name.to_uppercase(), row.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 3] = [
        ("WORDMILL_DATABASE_URL", "postgresql://u:p%40ss@h/n"),
        ("WORDMILL_BROKER_URL", "amqp://u:rabbit-pw@h/"),
        ("WORDMILL_ELASTICSEARCH_URL", "http://h:9200"),
    ];

    fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
        let all: Vec<_> = variables.iter().chain(&GOOD).map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let variable = |name: &str| all.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        Settings::read(arguments.iter().map(ToString::to_string), &variable).map(|(settings, _)| settings)
    }

    #[test]
    fn a_flag_comes_before_a_variable_and_a_variable_before_a_file() {
        let folder = std::env::temp_dir().join(format!("wordmill-settings-{}", std::process::id()));
        std::fs::write(&folder, "redis://h/7\n").unwrap();
        let file = folder.to_str().unwrap();
        let found = read(&[], &[("WORDMILL_REDIS_URL_FILE", file)]).unwrap();
        assert_eq!(found.redis_url, "redis://h/7");
        let found = read(&[], &[("WORDMILL_REDIS_URL_FILE", file), ("WORDMILL_REDIS_URL", "redis://h/1")]).unwrap();
        assert_eq!(found.redis_url, "redis://h/1");
        let found = read(&["--redis-url=redis://h/2", "--blocks", "3"], &[("WORDMILL_REDIS_URL", "redis://h/1")]).unwrap();
        assert_eq!((found.redis_url.as_str(), found.blocks), ("redis://h/2", 3));
        std::fs::remove_file(folder).unwrap();
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        let words = |arguments: &[&str], variables: &[(&str, &str)]| read(arguments, variables).err().unwrap();
        assert_eq!(words(&["--blocks", "x"], &[]), "--blocks is a number from 1 to 256, not \"x\".");
        assert_eq!(words(&["--blocks"], &[]), "--blocks wants a value.");
        assert!(words(&["--nonsense"], &[]).contains("does not know \"--nonsense\""));
        assert_eq!(words(&["--broker-url", "redis://h"], &[]), "--broker-url begins with amqp://, and this one does not.");
        assert!(words(&["--database-url", ""], &[]).starts_with("--database-url is not set"));
        assert!(words(&[], &[("WORDMILL_SECRET_KEY_FILE", "/nowhere/at/all")]).contains("cannot be read"));
    }

    #[test]
    fn passwords_of_addresses_are_secrets() {
        assert_eq!(read(&[], &[]).unwrap().secrets(), ["p@ss", "p%40ss", "rabbit-pw", "rabbit-pw"]);
        assert_eq!(unescaped("a%2Fb%zz%"), "a/b%zz%");
    }
}
