//! The limit: the least that a Rust client can do, and therefore the most that ours can reach.
//!
//! One thread, `--connections` keep-alive connections (256 unless told), each with one request in
//! flight. Bodies come from a JSONL file, read as it goes; line *i* carries marker *i*. An answer is
//! read whole and its marker compared; nothing is parsed, retried or kept.
//!
//! ```text
//! hyper-client --base-url http://127.0.0.1:PORT/v1 --input requests.jsonl [--connections 256]
//! ```
//! Prints one line of JSON: requests, answers, mismatched, failed, seconds, rate, last (when).

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{handshake, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use wordmill_bench_servers::{answers, argument, raise_open_files, split_url, unix_now};

type Fault = Box<dyn std::error::Error>;

/// The lines of the input, handed out one at a time.
struct Lines {
    file: BufReader<File>,
    next: u32,
}

impl Lines {
    fn take(&mut self) -> Result<Option<(u32, Bytes)>, Fault> {
        let mut line = Vec::with_capacity(1536);
        if self.file.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        self.next += 1;
        Ok(Some((self.next - 1, line.into())))
    }
}

#[derive(Default, Clone, Copy)]
struct Counts {
    requests: u64,
    answers: u64,
    mismatched: u64,
    failed: u64,
    last: Option<Instant>,
}

struct Job {
    authority: String,
    path: String,
    lines: RefCell<Lines>,
    counts: RefCell<Counts>,
}

async fn connect(authority: &str) -> Result<SendRequest<Full<Bytes>>, Fault> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn work(job: Rc<Job>, mut sender: SendRequest<Full<Bytes>>) -> Result<(), Fault> {
    loop {
        let line = job.lines.borrow_mut().take()?;
        let Some((marker, body)) = line else {
            return Ok(());
        };
        job.counts.borrow_mut().requests += 1;
        let request = Request::post(job.path.as_str())
            .header(HOST, job.authority.as_str())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let reply = response.into_body().collect().await?.to_bytes();
        let counts = &mut *job.counts.borrow_mut();
        counts.last = Some(Instant::now());
        if status != StatusCode::OK {
            counts.failed += 1;
        } else if answers(&reply, marker) {
            counts.answers += 1;
        } else {
            counts.mismatched += 1;
        }
    }
}

async fn drive() -> Result<(), Fault> {
    let base_url: String = argument("--base-url", String::new())?;
    let input: String = argument("--input", String::new())?;
    let connections: usize = argument("--connections", 256)?;
    let (authority, prefix) = split_url(&base_url)?;
    let job = Rc::new(Job {
        authority: authority.into(),
        path: format!("{prefix}/chat/completions"),
        lines: RefCell::new(Lines { file: BufReader::new(File::open(&input)?), next: 0 }),
        counts: RefCell::default(),
    });
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let job = Rc::clone(&job);
        workers.spawn_local(async move {
            let sender = connect(&job.authority).await.map_err(|fault| fault.to_string())?;
            work(job, sender).await.map_err(|fault| fault.to_string())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    let counts = *job.counts.borrow();
    let seconds = counts.last.map_or(0.0, |last| (last - start).as_secs_f64());
    println!(
        "{}",
        json!({
            "requests": counts.requests,
            "answers": counts.answers,
            "mismatched": counts.mismatched,
            "failed": counts.failed,
            "seconds": seconds,
            "rate": counts.answers as f64 / seconds.max(f64::MIN_POSITIVE),
            "last": unix_now(),
        })
    );
    Ok(())
}

fn main() -> Result<(), String> {
    raise_open_files().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    LocalSet::new().block_on(&runtime, drive()).map_err(|fault| fault.to_string())
}
