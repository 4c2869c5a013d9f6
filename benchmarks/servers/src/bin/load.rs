//! Shows what a server can give: raw HTTP over many connections, cheaper than any real client.
//!
//! One thread; each connection writes the same bytes again as soon as an answer has come. Where the
//! body holds `[#00000000]` the digits count up, so that no two requests are equal.
//!
//! ```text
//! load --url http://127.0.0.1:PORT/v1/chat/completions --body body.json [--connections 256] [--seconds 3]
//! ```
//! Prints one line of JSON: answers, failed, seconds, rate.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use memchr::memmem;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use wordmill_bench_servers::{argument, raise_open_files, split_url};

struct Load {
    authority: String,
    request: Vec<u8>,
    /// Where the eight digits of the marker stand.
    digits: Option<usize>,
    end: Instant,
    sent: Cell<u32>,
    answers: Cell<u64>,
    failed: Cell<u64>,
}

/// Status and whole length of the response at the front of `buffer`; None when more is needed.
fn parse(buffer: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let bad = |words: &str| io::Error::new(io::ErrorKind::InvalidData, words.to_string());
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(buffer).map_err(|error| bad(&error.to_string()))? else {
        return Ok(None);
    };
    let length: usize = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
        .ok_or_else(|| bad("an answer without a content-length"))?;
    let whole = head + length;
    Ok((buffer.len() >= whole).then_some((response.code.unwrap_or(0), whole)))
}

async fn work(load: Rc<Load>) -> io::Result<()> {
    let mut stream = TcpStream::connect(&load.authority).await?;
    stream.set_nodelay(true)?;
    let mut request = load.request.clone();
    let mut buffer = BytesMut::with_capacity(4096);
    while Instant::now() < load.end {
        if let Some(at) = load.digits {
            let number = load.sent.replace(load.sent.get().wrapping_add(1)) % 100_000_000;
            request[at..at + 8].copy_from_slice(format!("{number:08}").as_bytes());
        }
        stream.write_all(&request).await?;
        let (status, whole) = loop {
            if let Some(found) = parse(&buffer)? {
                break found;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        buffer.advance(whole);
        let count = if status == 200 { &load.answers } else { &load.failed };
        count.set(count.get() + 1);
    }
    Ok(())
}

async fn drive() -> Result<(), String> {
    let url: String = argument("--url", String::new())?;
    let file: String = argument("--body", String::new())?;
    let seconds: f64 = argument("--seconds", 3.0)?;
    let connections: usize = argument("--connections", 256)?;
    let (authority, path) = split_url(&url)?;
    let body = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    let start = Instant::now();
    let load = Rc::new(Load {
        authority: authority.into(),
        digits: memmem::find(&request, b"[#00000000]").map(|at| at + 2),
        request,
        end: start + Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        sent: Cell::new(0),
        answers: Cell::new(0),
        failed: Cell::new(0),
    });
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        workers.spawn_local(work(Rc::clone(&load)));
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "answers": load.answers.get(),
            "failed": load.failed.get(),
            "seconds": seconds,
            "rate": load.answers.get() as f64 / seconds,
        })
    );
    Ok(())
}

fn main() -> Result<(), String> {
    raise_open_files().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    LocalSet::new().block_on(&runtime, drive())
}
