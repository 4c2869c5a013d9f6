//! HTTP/1.1 as this server needs it: keep-alive, pipelining, fixed or chunked bodies, and bounds.
//!
//! Written by hand over `httparse`, because a general server costs more than the answers do: one
//! buffer in and one out per connection, one read and one write a request.

use std::io;
use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, Instant};

use crate::stats::{Outcome, Ticket};

const LARGEST_HEAD: usize = 32 * 1024;
const LARGEST_BODY: usize = 32 * 1024 * 1024;
const MOST_HEADERS: usize = 100;
const BUFFER: usize = 4 * 1024;
/// Pipelined answers are held back until this many bytes wait.
const FLUSH: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Other,
}

/// What one request is answered with. The bytes themselves were appended to the output.
pub(crate) struct Reply {
    pub(crate) delay: Duration,
    /// Ends of the pieces, in the output, that are to leave one after another; empty: all at once.
    pub(crate) pieces: Vec<usize>,
    /// How long the pieces take from the first to the last.
    pub(crate) spread: Duration,
    /// The connection ends with this answer.
    pub(crate) close: bool,
    pub(crate) ticket: Option<(Ticket, Outcome)>,
}

impl Reply {
    /// Leaves at once, and the connection goes on.
    pub(crate) const fn now() -> Self {
        Self { delay: Duration::ZERO, pieces: Vec::new(), spread: Duration::ZERO, close: false, ticket: None }
    }
}

/// Who answers requests.
pub(crate) trait Service {
    /// Appends the answer to `out`.
    fn answer(&self, method: Method, path: &str, body: &[u8], out: &mut Vec<u8>) -> Reply;
    /// Appends the answer to a request that cannot be read.
    fn refuse(&self, status: Status, message: &str, out: &mut Vec<u8>);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16, pub(crate) &'static str);

impl Status {
    pub(crate) const BAD_REQUEST: Self = Self(400, "Bad Request");
    pub(crate) const UNAUTHORIZED: Self = Self(401, "Unauthorized");
    pub(crate) const NOT_FOUND: Self = Self(404, "Not Found");
    pub(crate) const NOT_ALLOWED: Self = Self(405, "Method Not Allowed");
    pub(crate) const TOO_LARGE: Self = Self(413, "Content Too Large");
    pub(crate) const TOO_MANY: Self = Self(429, "Too Many Requests");
    pub(crate) const LARGE_HEAD: Self = Self(431, "Request Header Fields Too Large");
    pub(crate) const SERVER_ERROR: Self = Self(500, "Internal Server Error");
    pub(crate) const UNAVAILABLE: Self = Self(503, "Service Unavailable");
}

/// A request's head, as far as it matters here.
#[derive(Debug)]
struct Head {
    method: Method,
    path: String,
    keep_alive: bool,
    expects_continue: bool,
    framing: Framing,
    length: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

/// Why a request cannot be read.
type Unreadable = (Status, String);

/// Reads a head; None while it is not whole.
fn head(input: &[u8]) -> Result<Option<Head>, Unreadable> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() < LARGEST_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err((Status::LARGE_HEAD, format!("A request's head may have {MOST_HEADERS} fields and {LARGEST_HEAD} bytes.")));
        }
        Err(error) => return Err((Status::BAD_REQUEST, format!("This is not HTTP/1.1: {error}."))),
    };
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        _ => Method::Other,
    };
    let path = request.path.unwrap_or("/").split(['?', '#']).next().unwrap_or("/").to_owned();
    let mut head =
        Head { method, path, keep_alive: request.version == Some(1), expects_continue: false, framing: Framing::Length(0), length };
    let bad = |message: &str| Err((Status::BAD_REQUEST, message.to_owned()));
    let mut counted = None;
    for header in request.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(header.value).unwrap_or("").trim();
            let Some(length) = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten() else {
                return bad("Content-Length is not a number.");
            };
            if counted.is_some_and(|counted| counted != length) {
                return bad("There are two Content-Length fields.");
            }
            counted = Some(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.eq_ignore_ascii_case(b"chunked") {
                return bad("Only chunked bodies are understood.");
            }
            head.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            for word in header.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                if word.eq_ignore_ascii_case(b"close") {
                    head.keep_alive = false;
                } else if word.eq_ignore_ascii_case(b"keep-alive") {
                    head.keep_alive = true;
                }
            }
        } else if name.eq_ignore_ascii_case("expect") {
            head.expects_continue = header.value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    match (counted, &head.framing) {
        (Some(_), Framing::Chunked) => return bad("A body is either chunked or counted, not both."),
        (Some(length), _) if length > LARGEST_BODY => return Err(too_large()),
        (Some(length), _) => head.framing = Framing::Length(length),
        (None, _) => {}
    }
    Ok(Some(head))
}

fn too_large() -> Unreadable {
    (Status::TOO_LARGE, format!("A request's body may have {LARGEST_BODY} bytes."))
}

/// The body of a chunked request, as it comes.
#[derive(Default)]
struct Chunks {
    body: Vec<u8>,
    /// Bytes of the current chunk that are still to come, with its line end.
    left: usize,
    /// The last chunk has been; its trailer follows.
    last: bool,
}

impl Chunks {
    /// Takes what it can from `input`: how much, and whether the body is whole.
    fn feed(&mut self, input: &[u8]) -> Result<(usize, bool), Unreadable> {
        let bad = || (Status::BAD_REQUEST, "The chunks of the body cannot be read.".to_owned());
        let mut at = 0;
        loop {
            let rest = &input[at..];
            if self.left > 2 {
                let taken = (self.left - 2).min(rest.len());
                self.body.extend_from_slice(&rest[..taken]);
                self.left -= taken;
                at += taken;
                if self.left > 2 {
                    return Ok((at, false));
                }
            } else if self.left == 2 {
                match rest {
                    [b'\r', b'\n', ..] => (at, self.left) = (at + 2, 0),
                    [] | [b'\r'] => return Ok((at, false)),
                    _ => return Err(bad()),
                }
            } else if self.last {
                let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
                    return if rest.len() > LARGEST_HEAD { Err(bad()) } else { Ok((at, false)) };
                };
                at += end + 2;
                if end == 0 {
                    return Ok((at, true));
                }
            } else {
                match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((line, size))) => {
                        at += line;
                        if size > (LARGEST_BODY - self.body.len()) as u64 {
                            return Err(too_large());
                        }
                        self.last = size == 0;
                        self.left = if self.last { 0 } else { size as usize + 2 };
                    }
                    Ok(httparse::Status::Partial) if rest.len() < 256 => return Ok((at, false)),
                    _ => return Err(bad()),
                }
            }
        }
    }
}

/// A connection's buffers and where its current request stands.
struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of the input that are done with.
    start: usize,
    output: Vec<u8>,
}

/// Answers the requests of one connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, service: &impl Service) -> io::Result<()> {
    let mut connection = Connection { stream, input: Vec::with_capacity(BUFFER), start: 0, output: Vec::with_capacity(BUFFER) };
    let ended = connection.run(service).await?;
    if let Some((status, message)) = ended {
        service.refuse(status, &message, &mut connection.output);
        connection.flush().await?;
        connection.linger().await;
    }
    Ok(())
}

impl Connection {
    /// Until the connection ends; with a reason when the client is still owed one.
    async fn run(&mut self, service: &impl Service) -> io::Result<Option<Unreadable>> {
        loop {
            let head = match head(&self.input[self.start..]) {
                Err(reason) => return Ok(Some(reason)),
                Ok(Some(head)) => head,
                Ok(None) => {
                    if !self.more().await? {
                        return Ok(None);
                    }
                    continue;
                }
            };
            self.start += head.length;
            let mut chunks = Chunks::default();
            let body = match head.framing {
                Framing::Length(length) => {
                    self.input.reserve((self.start + length).saturating_sub(self.input.len()).min(FLUSH));
                    while self.input.len() - self.start < length {
                        if !self.more_of(&head).await? {
                            return Ok(None);
                        }
                    }
                    let body = self.start..self.start + length;
                    self.start = body.end;
                    &self.input[body]
                }
                Framing::Chunked => {
                    loop {
                        match chunks.feed(&self.input[self.start..]) {
                            Err(reason) => return Ok(Some(reason)),
                            Ok((taken, whole)) => {
                                self.start += taken;
                                if whole {
                                    break;
                                }
                            }
                        }
                        if !self.more_of(&head).await? {
                            return Ok(None);
                        }
                    }
                    &chunks.body
                }
            };
            let from = self.output.len();
            let reply = service.answer(head.method, &head.path, body, &mut self.output);
            let open = self.send(from, reply).await?;
            if !open || !head.keep_alive {
                self.flush().await?;
                return Ok(None);
            }
        }
    }

    /// Reads more of the input; false at its end. What waits to be sent is sent first, after all
    /// connections that can be read now were: a client that waits is woken once for many answers.
    async fn more(&mut self) -> io::Result<bool> {
        if !self.output.is_empty() {
            tokio::task::yield_now().await;
        }
        self.flush().await?;
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
            self.input.shrink_to(FLUSH);
        } else if self.start > BUFFER {
            self.input.drain(..self.start);
            self.start = 0;
        }
        if self.input.capacity() - self.input.len() < BUFFER / 2 {
            self.input.reserve(BUFFER);
        }
        Ok(self.stream.read_buf(&mut self.input).await? > 0)
    }

    /// The same for a body that the client may not send before it is told to.
    async fn more_of(&mut self, head: &Head) -> io::Result<bool> {
        if head.expects_continue && self.start == self.input.len() {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.more().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.write(0..self.output.len()).await?;
        self.output.clear();
        self.output.shrink_to(FLUSH);
        Ok(())
    }

    async fn write(&mut self, range: Range<usize>) -> io::Result<()> {
        if !range.is_empty() {
            self.stream.write_all(&self.output[range]).await?;
        }
        Ok(())
    }

    /// Sends the answer that starts at `from` in the output; whether the connection goes on.
    async fn send(&mut self, from: usize, reply: Reply) -> io::Result<bool> {
        if reply.delay.is_zero() && reply.spread.is_zero() {
            if reply.close || self.output.len() > FLUSH {
                self.flush().await?;
            }
        } else {
            self.write(0..from).await?;
            let start = Instant::now() + reply.delay;
            let mut sent = from;
            let gaps = reply.pieces.len().max(2) as u32 - 1;
            let end = self.output.len();
            for (number, &piece) in reply.pieces.iter().chain([&end]).enumerate() {
                let due = start + reply.spread * (number as u32).min(gaps) / gaps;
                if due > Instant::now() && !self.wait(due).await? {
                    return Ok(false);
                }
                self.write(sent..piece).await?;
                sent = piece;
            }
            self.output.clear();
        }
        if let Some((ticket, outcome)) = reply.ticket {
            ticket.end(outcome);
        }
        Ok(!reply.close)
    }

    /// Waits until `due`; false as soon as the client has gone.
    async fn wait(&mut self, due: Instant) -> io::Result<bool> {
        let timer = sleep_until(due);
        tokio::pin!(timer);
        loop {
            if self.input.len() - self.start > LARGEST_HEAD {
                timer.await;
                return Ok(true);
            }
            tokio::select! {
                biased;
                () = &mut timer => return Ok(true),
                read = self.stream.read_buf(&mut self.input) => if read? == 0 {
                    return Ok(false);
                },
            }
        }
    }

    /// Takes what is still coming for a moment, so that closing does not take the last answer back.
    async fn linger(&mut self) {
        let until = Instant::now() + Duration::from_secs(1);
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let mut waste = vec![0; BUFFER];
        while let Ok(Ok(1..)) = tokio::time::timeout_at(until, self.stream.read(&mut waste)).await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_whole_or_not_at_all() {
        let text = b"POST /v1/x?a=b HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 12\r\nConnection: Close\r\n\r\nrest";
        for length in 0..text.len() - 4 {
            assert!(head(&text[..length]).unwrap().is_none(), "{length}");
        }
        let head = head(text).unwrap().unwrap();
        assert_eq!((head.method, head.path.as_str(), head.keep_alive), (Method::Post, "/v1/x", false));
        assert_eq!((head.framing, head.length), (Framing::Length(12), text.len() - 4));
    }

    #[test]
    fn a_head_beyond_the_bounds_is_refused() {
        let says = |text: &[u8]| head(text).unwrap_err();
        assert_eq!(says(b"\x16\x03\x01\x02\x00\x01").0, Status::BAD_REQUEST);
        assert_eq!(says(b"GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n").1, "Content-Length is not a number.");
        assert_eq!(says(b"GET / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n").0, Status::TOO_LARGE);
        let both = b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(says(both).1, "A body is either chunked or counted, not both.");
        let twice = b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(says(twice).1, "There are two Content-Length fields.");
        let mut many = b"GET / HTTP/1.1\r\n".to_vec();
        many.extend(b"a: b\r\n".repeat(MOST_HEADERS + 1));
        assert_eq!(says(&many).0, Status::LARGE_HEAD);
        assert_eq!(says(&[b"GET / HTTP/1.1\r\na: ".as_slice(), &vec![b'x'; LARGEST_HEAD]].concat()).0, Status::LARGE_HEAD);
    }

    #[test]
    fn chunks_come_in_any_pieces() {
        let text = b"4\r\nWiki\r\n6;x=y\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nA: b\r\n\r\nnext";
        for size in 1..text.len() {
            let (mut chunks, mut input, mut start, mut whole) = (Chunks::default(), Vec::new(), 0, false);
            for piece in text.chunks(size) {
                input.extend_from_slice(piece);
                if !whole {
                    let (taken, done) = chunks.feed(&input[start..]).unwrap();
                    (start, whole) = (start + taken, done);
                }
            }
            assert!(whole, "{size}");
            assert_eq!(chunks.body, b"Wikipedia in \r\n\r\nchunks.");
            assert_eq!(&input[start..], b"next");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        assert!(Chunks::default().feed(b"4\r\nWikiX").is_err());
        assert!(Chunks::default().feed(b"zz\r\n").is_err());
        assert_eq!(Chunks::default().feed(b"fffffff\r\n").unwrap_err().0, Status::TOO_LARGE);
    }
}
