//! Which path answers what; admission, latency and faults around every answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::chat::Writer;
use crate::completions::Completions;
use crate::embeddings;
use crate::faults::Fault;
use crate::http::{Method, Reply, Service, Status};
use crate::json;
use crate::random;
use crate::request::{Chat, Embeddings};
use crate::responses::Responses;
use crate::server::Options;
use crate::stats::{Counters, Outcome};
use crate::wrong::Wrong;

/// Names that `/models` lists. Others are answered too.
const MODELS: [&str; 3] = ["rehearsal", "rehearsal-small", "mock-1"];
/// Model names that begin so are unknown to the server, so that this too can be rehearsed.
const MISSING: &str = "missing";
/// A slow answer takes this many latencies longer, and at least this long.
const SLOW_TIMES: u32 = 20;
const SLOW: Duration = Duration::from_secs(1);
/// What `Retry-After` asks for: about one latency, within these.
const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(2);

/// Within the id of any event.
const HALF_EVENT: usize = 30;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// The model and its bookkeeping.
pub(crate) struct Model {
    options: Options,
    counters: Arc<Counters>,
    writer: Writer,
}

/// An answer before it has a head.
struct Answer {
    body: Vec<u8>,
    /// Ends of the events of a stream; None for a body sent whole.
    events: Option<Vec<usize>>,
}

impl Answer {
    /// The same, but JSON to nobody: an object without its end, or an event in the middle of a
    /// stream that breaks off.
    fn malformed(mut self) -> Self {
        match &mut self.events {
            None => self.body.truncate(self.body.len() * 2 / 3),
            Some(events) => {
                events.truncate(events.len() / 2);
                self.body.truncate(events.last().unwrap_or(&0) + HALF_EVENT);
                self.body.extend_from_slice(b"\n\ndata: [DONE]\n\n");
            }
        }
        self
    }
}

impl Model {
    pub(crate) fn new(options: Options, counters: Arc<Counters>) -> Self {
        Self { writer: Writer::new(options.seed), options, counters }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Answers a request that costs something: counted, limited, delayed, and sometimes spoilt.
    fn ask(&self, body: &[u8], out: &mut Vec<u8>, respond: Respond) -> Reply {
        let Some(ticket) = self.counters.admit(self.options.limit) else {
            return self.too_many(out, "Rate limit reached: too many requests at once");
        };
        let digest = random::hash(0, body);
        let before = self.counters.before(digest);
        let drawn = self.options.errors.draw(self.options.seed, digest, before);
        let asked = Asked { body, drawn, id: random::mix(digest.wrapping_add(before)) };
        let (mut reply, outcome) = match respond(self, &asked) {
            Err(wrong) => (error(out, &wrong), Outcome::Rejected),
            Ok((answer, fault)) => {
                if let Some(fault) = fault {
                    self.counters.fault(fault);
                }
                self.spoil(out, answer, fault)
            }
        };
        if outcome != Outcome::Rejected {
            reply.delay = self.options.latency;
            if drawn == Some(Fault::Slow) {
                reply.delay += SLOW.max(self.options.latency * SLOW_TIMES);
            }
            if !reply.pieces.is_empty() && !self.options.latency.is_zero() {
                // A stream begins early and takes as long as a whole answer.
                let first = self.options.latency / 4;
                reply.spread = self.options.latency - first;
                reply.delay -= reply.spread;
            }
        }
        reply.ticket = Some((ticket, outcome));
        reply
    }

    /// Writes an answer as the faults of the wire would have it; a fault of the text is in it already.
    fn spoil(&self, out: &mut Vec<u8>, answer: Answer, fault: Option<Fault>) -> (Reply, Outcome) {
        let failed = |out: &mut Vec<u8>, wrong: &Wrong| (error(out, wrong), Outcome::Faulted);
        let closed = Reply { close: true, ..Reply::now() };
        match fault {
            Some(Fault::TooManyRequests) => (self.too_many(out, "Rate limit reached for requests"), Outcome::Faulted),
            Some(Fault::Unauthorized) => {
                let message = "Incorrect API key provided. You can find your API key in your account's settings.";
                failed(out, &Wrong::new(Status::UNAUTHORIZED, message, None, Some("invalid_api_key")))
            }
            Some(Fault::ServerError) => {
                let message = "The server had an error while processing your request. Sorry about that!";
                failed(out, &Wrong::ours(Status::SERVER_ERROR, "server_error", message))
            }
            Some(Fault::Unavailable) => {
                let message = "The engine is currently overloaded, please try again later.";
                failed(out, &Wrong::ours(Status::UNAVAILABLE, "service_unavailable", message))
            }
            Some(Fault::Drop) => (closed, Outcome::Faulted),
            Some(Fault::Truncate) => {
                let half = answer.body.len() / 2;
                match answer.events {
                    None => {
                        head(out, OK, JSON, Some(answer.body.len()), "");
                        out.extend_from_slice(&answer.body[..half]);
                    }
                    Some(_) => {
                        head(out, OK, EVENTS, None, "");
                        chunk(out, &answer.body[..half]);
                    }
                }
                (closed, Outcome::Faulted)
            }
            Some(Fault::Malformed) => (send(out, answer.malformed()), Outcome::Faulted),
            _ => (send(out, answer), Outcome::Answered),
        }
    }

    fn too_many(&self, out: &mut Vec<u8>, message: &str) -> Reply {
        let wait = self.options.latency.clamp(SOON, LATE);
        let message = format!("{message}. Please try again in {}ms.", wait.as_millis());
        let mut wrong = Wrong::ours(Status::TOO_MANY, "requests", message);
        wrong.code = Some("rate_limit_exceeded");
        let body = wrong.body();
        let seconds = wait.as_millis().div_ceil(1000);
        let extra = format!("retry-after: {seconds}\r\nretry-after-ms: {}\r\n", wait.as_millis());
        head(out, wrong.status, JSON, Some(body.len()), &extra);
        out.extend_from_slice(&body);
        Reply::now()
    }

    fn chat(&self, asked: &Asked<'_>) -> Result<(Answer, Option<Fault>), Wrong> {
        let chat: Chat<'_> = read(asked.body)?;
        known(&chat.model.0)?;
        if let Some((message, param)) = chat.fault() {
            return Err(Wrong::request(message, Some(param)));
        }
        let task = self.writer.read(&chat)?;
        let fault = asked.drawn.filter(|&fault| task.suits(fault));
        let completion = task.write(fault, asked.id, now());
        let mut body = Vec::with_capacity(2048);
        if chat.stream == Some(true) {
            let with_usage = chat.stream_options.as_ref().is_some_and(|options| options.include_usage);
            let events = completion.stream(&mut body, with_usage);
            Ok((Answer { body, events: Some(events) }, fault))
        } else {
            completion.write(&mut body);
            Ok((Answer { body, events: None }, fault))
        }
    }
}

impl Model {
    fn embeddings(&self, asked: &Asked<'_>) -> Result<(Answer, Option<Fault>), Wrong> {
        let request: Embeddings<'_> = read(asked.body)?;
        known(&request.model.0)?;
        let mut body = Vec::with_capacity(4096);
        embeddings::write(&request, self.options.seed, &mut body)?;
        let words = [Fault::Empty, Fault::Refuse, Fault::Schema, Fault::AsAnAi];
        Ok((Answer { body, events: None }, asked.drawn.filter(|fault| !words.contains(fault))))
    }
}

impl Model {
    fn completions(&self, asked: &Asked<'_>) -> Result<(Answer, Option<Fault>), Wrong> {
        let request: Completions<'_> = read(asked.body)?;
        known(&request.model.0)?;
        let (body, fault) = request.write(&self.writer, asked.drawn, asked.id, now())?;
        Ok((Answer { body, events: None }, fault))
    }

    fn responses(&self, asked: &Asked<'_>) -> Result<(Answer, Option<Fault>), Wrong> {
        let request: Responses<'_> = read(asked.body)?;
        known(&request.model.0)?;
        let (body, fault) = request.write(&self.writer, asked.drawn, asked.id, now())?;
        Ok((Answer { body, events: None }, fault))
    }
}

/// How a kind of request is answered: the answer, and the drawn fault if it can happen to it.
type Respond = fn(&Model, &Asked<'_>) -> Result<(Answer, Option<Fault>), Wrong>;

struct Asked<'a> {
    body: &'a [u8],
    drawn: Option<Fault>,
    id: u64,
}

impl Service for Model {
    fn answer(&self, method: Method, path: &str, body: &[u8], out: &mut Vec<u8>) -> Reply {
        let post: Option<Respond> = if path.ends_with("/chat/completions") {
            Some(Self::chat)
        } else if path.ends_with("/embeddings") {
            Some(Self::embeddings)
        } else if path.ends_with("/completions") {
            Some(Self::completions)
        } else if path.ends_with("/responses") {
            Some(Self::responses)
        } else {
            None
        };
        match (post, method) {
            (Some(respond), Method::Post) => return self.ask(body, out, respond),
            (Some(_), _) => return error(out, &method_error(path, "POST")),
            (None, _) => {}
        }
        let found = if path == "/stats" {
            self.counters.json().into_bytes()
        } else if path.ends_with("/models") {
            list()
        } else if let Some((_, name)) = path.split_once("/models/") {
            if name.starts_with(MISSING) {
                return error(out, &Wrong::model(name));
            }
            let mut body = Vec::new();
            describe(&mut body, name);
            body
        } else {
            let message = format!(
                "Unknown request URL: {path}. The rehearsal model answers POST /v1/chat/completions, \
                 POST /v1/completions, POST /v1/responses, POST /v1/embeddings, GET /v1/models and GET /stats."
            );
            return error(out, &Wrong::new(Status::NOT_FOUND, message, None, Some("unknown_url")));
        };
        if method != Method::Get {
            return error(out, &method_error(path, "GET"));
        }
        send(out, Answer { body: found, events: None })
    }

    fn refuse(&self, status: Status, message: &str, out: &mut Vec<u8>) {
        error(out, &Wrong::new(status, message, None, None));
    }
}

fn method_error(path: &str, right: &str) -> Wrong {
    let message = format!("Not allowed to use this method on {path}: use {right}.");
    Wrong::new(Status::NOT_ALLOWED, message, None, Some("method_not_supported"))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Wrong> {
    serde_json::from_slice(body).map_err(|error| Wrong::request(format!("The JSON body of your request cannot be read: {error}."), None))
}

fn known(model: &str) -> Result<(), Wrong> {
    if model.is_empty() {
        Err(Wrong::request("you must provide a model parameter", Some("model")))
    } else if model.starts_with(MISSING) {
        Err(Wrong::model(model))
    } else {
        Ok(())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn list() -> Vec<u8> {
    let mut body = b"{\"object\":\"list\",\"data\":[".to_vec();
    for (number, name) in MODELS.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        describe(&mut body, name);
    }
    body.extend_from_slice(b"]}");
    body
}

fn describe(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b"{\"id\":");
    json::string(out, name);
    out.extend_from_slice(b",\"object\":\"model\",\"created\":0,\"owned_by\":\"rehearsal\"}");
}

const OK: Status = Status(200, "OK");
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn error(out: &mut Vec<u8>, wrong: &Wrong) -> Reply {
    let body = wrong.body();
    head(out, wrong.status, JSON, Some(body.len()), "");
    out.extend_from_slice(&body);
    Reply::now()
}

fn send(out: &mut Vec<u8>, answer: Answer) -> Reply {
    let Some(events) = answer.events else {
        head(out, OK, JSON, Some(answer.body.len()), "");
        out.extend_from_slice(&answer.body);
        return Reply::now();
    };
    head(out, OK, EVENTS, None, "cache-control: no-cache\r\n");
    let (mut from, mut pieces) = (0, Vec::with_capacity(events.len()));
    for end in events {
        chunk(out, &answer.body[from..end]);
        pieces.push(out.len());
        from = end;
    }
    chunk(out, &answer.body[from..]);
    out.extend_from_slice(LAST_CHUNK);
    Reply { pieces, ..Reply::now() }
}

fn head(out: &mut Vec<u8>, status: Status, kind: &str, length: Option<usize>, extra: &str) {
    if status == OK && extra.is_empty() && kind == JSON {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
    } else {
        out.extend_from_slice(format!("HTTP/1.1 {} {}\r\ncontent-type: {kind}\r\n{extra}", status.0, status.1).as_bytes());
    }
    if let Some(length) = length {
        out.extend_from_slice(b"content-length: ");
        json::number(out, length as u64);
        out.extend_from_slice(b"\r\n\r\n");
    } else {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    }
}

fn chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }
}
