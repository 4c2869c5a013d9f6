//! The server that all contestants meet: a chat completion of about 500 bytes, and nothing else.
//!
//! HTTP is parsed by hand (httparse) on one thread, so that the server is never the limit of a
//! measurement: `load` shows how much it can give. Latency is a fixed time held between the last
//! byte of a request and its answer; above `--limit` requests in hand it answers 429 at once.
//!
//! ```text
//! bare-server [--port 0] [--latency-ms 0] [--limit 0]
//! POST */chat/completions   an answer that begins with the request's marker, and usage
//! GET  */models             the one model, `bare`
//! GET  /stats               what was counted since the last reset
//! POST /reset?latency_ms=200&limit=8   count from nought, with these settings (absent: 0)
//! ```

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{sleep_until, Instant};
use wordmill_bench_servers::{argument, find_marker, raise_open_files, unix_now, MARKERS};

const FILLER: &str = "The river ran high that spring, and the mill by the old bridge worked through the night. \
    Farmers came with carts of grain from villages on both banks, and the miller weighed each sack with care. \
    Some of them waited until morning, drinking tea in the small kitchen while the stones turned below. \
    Nobody spoke of the flood, though everyone had seen the water rise to the lowest step. \
    By noon the flour stood in rows, the books agreed, and the road home was dry enough to take.";
const BEFORE: &str = concat!(
    r#"{"id":"chatcmpl-bare","object":"chat.completion","created":1750000000,"model":"bare","#,
    r#""choices":[{"index":0,"message":{"role":"assistant","content":""#
);
const AFTER: &str =
    concat!(r#""},"finish_reason":"stop"}],"#, r#""usage":{"prompt_tokens":256,"completion_tokens":112,"total_tokens":368}}"#);
const MODELS: &str = r#"{"object":"list","data":[{"id":"bare","object":"model","created":1750000000,"owned_by":"bench"}]}"#;
const THROTTLED: &str = r#"{"error":{"message":"Too many requests at once.","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;
const NOTHING: &str = r#"{"error":{"message":"There is nothing here.","type":"invalid_request_error","code":null}}"#;

/// How the server behaves until the next reset.
#[derive(Clone, Copy, Default)]
struct Settings {
    latency: Duration,
    /// Requests in hand at once; 0 for no limit.
    limit: u32,
}

/// What `/stats` says. Times are seconds since 1970, 0 for "not yet"; they and `by_second` leave
/// requests without a marker out.
#[derive(Default, Serialize)]
struct Stats {
    requests: u64,
    answers: u64,
    throttled: u64,
    distinct: u64,
    /// Requests beyond the first with the same marker.
    repeated: u64,
    /// Requests without a marker: the probes that some tools send first.
    unmarked: u64,
    in_hand: u32,
    highest_concurrency: u32,
    connections: u64,
    first_request: f64,
    last_request: f64,
    last_answer: f64,
    /// Sum over the answers of the time between request and answer.
    held_seconds: f64,
    /// [answers, throttled] in each second since the first request.
    by_second: Vec<[u64; 2]>,
}

#[derive(Default)]
struct Server {
    settings: Cell<Settings>,
    stats: RefCell<Stats>,
    /// One byte a marker: 1 once it was seen.
    seen: RefCell<Vec<u8>>,
}

impl Server {
    /// Count a request; its time of arrival, or None when there are too many in hand.
    fn arrive(&self, body: &[u8]) -> Option<f64> {
        let now = unix_now();
        let stats = &mut *self.stats.borrow_mut();
        stats.requests += 1;
        match find_marker(body) {
            None => stats.unmarked += 1,
            Some(marker) => {
                if stats.first_request == 0.0 {
                    stats.first_request = now;
                }
                stats.last_request = now;
                let seen = &mut *self.seen.borrow_mut();
                let at = marker as usize;
                if at >= seen.len() {
                    seen.resize((at + 1).next_power_of_two().min(MARKERS as usize), 0);
                }
                if std::mem::replace(&mut seen[at], 1) == 0 {
                    stats.distinct += 1;
                } else {
                    stats.repeated += 1;
                }
            }
        }
        let limit = self.settings.get().limit;
        if limit > 0 && stats.in_hand >= limit {
            stats.throttled += 1;
            stats.count_in_second(now, 1);
            return None;
        }
        stats.in_hand += 1;
        stats.highest_concurrency = stats.highest_concurrency.max(stats.in_hand);
        Some(now)
    }

    fn leave(&self, arrived: f64) {
        let now = unix_now();
        let stats = &mut *self.stats.borrow_mut();
        stats.in_hand = stats.in_hand.saturating_sub(1);
        stats.answers += 1;
        stats.last_answer = now;
        stats.held_seconds += now - arrived;
        stats.count_in_second(now, 0);
    }

    fn reset(&self, settings: Settings) {
        self.settings.set(settings);
        let mut stats = self.stats.borrow_mut();
        let in_hand = stats.in_hand;
        *stats = Stats { in_hand, ..Stats::default() };
        self.seen.borrow_mut().clear();
    }
}

impl Stats {
    fn count_in_second(&mut self, now: f64, which: usize) {
        if self.first_request == 0.0 {
            return;
        }
        let at = (now - self.first_request).max(0.0) as usize;
        if at >= self.by_second.len() {
            self.by_second.resize(at + 1, [0, 0]);
        }
        self.by_second[at][which] += 1;
    }
}

enum Route {
    Chat,
    Models,
    Stats,
    Reset(Settings),
    Nothing,
}

/// The head of a request that has come in whole.
struct Head {
    route: Route,
    length: usize,
    body: usize,
    close: bool,
}

fn route(method: &str, path: &str) -> Route {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    match method {
        "POST" if path.ends_with("/chat/completions") => Route::Chat,
        "GET" if path.ends_with("/models") => Route::Models,
        "GET" if path == "/stats" => Route::Stats,
        "POST" if path == "/reset" => {
            let number = |name: &str| {
                query
                    .split('&')
                    .filter_map(|pair| pair.split_once('='))
                    .find(|(key, _)| *key == name)
                    .and_then(|(_, value)| value.parse::<f64>().ok())
                    .unwrap_or(0.0)
            };
            Route::Reset(Settings {
                latency: Duration::from_secs_f64(number("latency_ms").clamp(0.0, 1e6) / 1000.0),
                limit: number("limit") as u32,
            })
        }
        _ => Route::Nothing,
    }
}

/// The head at the front of `buffer`; None when more bytes are needed.
fn parse(buffer: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut request = httparse::Request::new(&mut headers);
    let bad = |words: String| io::Error::new(io::ErrorKind::InvalidData, words);
    let httparse::Status::Complete(body) = request.parse(buffer).map_err(|error| bad(error.to_string()))? else {
        return Ok(None);
    };
    let mut head = Head { route: route(request.method.unwrap_or(""), request.path.unwrap_or("")), length: 0, body, close: false };
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.length = std::str::from_utf8(header.value)
                .ok()
                .and_then(|value| value.parse().ok())
                .ok_or_else(|| bad("a content-length that is no number".into()))?;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.close = header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(bad("a chunked request: this server wants a content-length".into()));
        }
    }
    Ok(Some(head))
}

fn write_response(out: &mut Vec<u8>, status: &str, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.clear();
    write!(out, "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")?;
    parts.iter().for_each(|part| out.extend_from_slice(part));
    Ok(())
}

async fn chat(server: &Server, body: &[u8], out: &mut Vec<u8>) -> io::Result<Option<f64>> {
    let start = Instant::now();
    let Some(arrived) = server.arrive(body) else {
        write_response(out, "429 Too Many Requests", &[THROTTLED.as_bytes()])?;
        return Ok(None);
    };
    let latency = server.settings.get().latency;
    if !latency.is_zero() {
        sleep_until(start + latency).await;
    }
    let marker = find_marker(body).map_or(String::new(), |number| format!("[#{number}] "));
    let parts = [BEFORE, &marker, FILLER, AFTER].map(str::as_bytes);
    write_response(out, "200 OK", &parts)?;
    Ok(Some(arrived))
}

async fn serve(server: Rc<Server>, mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(4096);
    let mut out = Vec::with_capacity(1024);
    loop {
        let head = loop {
            if let Some(head) = parse(&buffer)? {
                break head;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let end = head.body + head.length;
        while buffer.len() < end {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let mut arrived = None;
        match head.route {
            Route::Chat => arrived = chat(&server, &buffer[head.body..end], &mut out).await?,
            Route::Models => write_response(&mut out, "200 OK", &[MODELS.as_bytes()])?,
            Route::Stats => {
                let stats = serde_json::to_vec(&*server.stats.borrow())?;
                write_response(&mut out, "200 OK", &[&stats])?;
            }
            Route::Reset(settings) => {
                server.reset(settings);
                write_response(&mut out, "200 OK", &[b"{}"])?;
            }
            Route::Nothing => write_response(&mut out, "404 Not Found", &[NOTHING.as_bytes()])?,
        }
        let written = stream.write_all(&out).await;
        if let Some(arrived) = arrived {
            server.leave(arrived);
        }
        written?;
        buffer.advance(end);
        if head.close {
            return stream.shutdown().await;
        }
    }
}

async fn listen(port: u16, settings: Settings) -> io::Result<()> {
    let server = Rc::new(Server::default());
    server.reset(settings);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    // A client may open thousands of connections at once; one turned away waits for a second.
    let listener = socket.listen(4096)?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        server.stats.borrow_mut().connections += 1;
        let server = Rc::clone(&server);
        tokio::task::spawn_local(async move {
            if let Err(error) = serve(server, stream).await {
                if error.kind() == io::ErrorKind::InvalidData {
                    eprintln!("bare-server: {error}");
                }
            }
        });
    }
}

fn main() -> Result<(), String> {
    let port = argument("--port", 0u16)?;
    let latency = argument("--latency-ms", 0u64)?;
    let settings = Settings { latency: Duration::from_millis(latency), limit: argument("--limit", 0u32)? };
    let words = |error: io::Error| error.to_string();
    raise_open_files().map_err(words)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(words)?;
    LocalSet::new().block_on(&runtime, listen(port, settings)).map_err(words)
}
