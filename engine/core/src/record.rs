//! What goes in and what comes out: a job is one request, an outcome is its only record.

use crate::json::Key;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Why a request has no reply. The order is the number kept in the records file: only append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Throttled = 1,
    Overloaded,
    ServerError,
    Timeout,
    Connect,
    Dropped,
    Cut,
    InvalidJson,
    Empty,
    InvalidText,
    Rejected,
    TooLarge,
    Unauthorized,
    Payment,
    UnknownModel,
    Stopped,
    Budget,
    Cancelled,
    BadRequest,
}

impl Kind {
    pub const ALL: [Kind; 19] = [
        Kind::Throttled,
        Kind::Overloaded,
        Kind::ServerError,
        Kind::Timeout,
        Kind::Connect,
        Kind::Dropped,
        Kind::Cut,
        Kind::InvalidJson,
        Kind::Empty,
        Kind::InvalidText,
        Kind::Rejected,
        Kind::TooLarge,
        Kind::Unauthorized,
        Kind::Payment,
        Kind::UnknownModel,
        Kind::Stopped,
        Kind::Budget,
        Kind::Cancelled,
        Kind::BadRequest,
    ];

    /// The stable word, as `_engine.pyi` lists it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Throttled => "throttled",
            Kind::Overloaded => "overloaded",
            Kind::ServerError => "server_error",
            Kind::Timeout => "timeout",
            Kind::Connect => "connect",
            Kind::Dropped => "dropped",
            Kind::Cut => "cut",
            Kind::InvalidJson => "invalid_json",
            Kind::Empty => "empty",
            Kind::InvalidText => "invalid_text",
            Kind::Rejected => "rejected",
            Kind::TooLarge => "too_large",
            Kind::Unauthorized => "unauthorized",
            Kind::Payment => "payment",
            Kind::UnknownModel => "unknown_model",
            Kind::Stopped => "stopped",
            Kind::Budget => "budget",
            Kind::Cancelled => "cancelled",
            Kind::BadRequest => "bad_request",
        }
    }

    /// Another attempt may end differently.
    pub fn retried(self) -> bool {
        matches!(
            self,
            Kind::Throttled
                | Kind::Overloaded
                | Kind::ServerError
                | Kind::Timeout
                | Kind::Connect
                | Kind::Dropped
                | Kind::Cut
                | Kind::InvalidJson
                | Kind::Empty
        )
    }

    /// The server has no room: slow the lane down.
    pub fn pushes_back(self) -> bool {
        matches!(self, Kind::Throttled | Kind::Overloaded | Kind::Timeout)
    }

    /// No later request of this lane can end better.
    pub fn fatal(self) -> bool {
        matches!(self, Kind::Unauthorized | Kind::Payment | Kind::UnknownModel)
    }

    /// Nothing is known to have been answered: not recorded, asked again by the next run.
    pub fn unrecorded(self) -> bool {
        matches!(self, Kind::Stopped | Kind::Budget | Kind::Cancelled | Kind::BadRequest)
    }

    /// The server may have worked, and asks money, although no usage came back.
    fn may_cost(self) -> bool {
        matches!(self, Kind::Timeout | Kind::Dropped | Kind::Cut | Kind::InvalidJson | Kind::TooLarge | Kind::InvalidText)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Bits of `Outcome::flags`, as `_engine.pyi` lists them.
pub mod flag {
    pub const CACHED: u32 = 1;
    pub const JOINED: u32 = 2;
    pub const FALLBACK: u32 = 4;
    pub const ESTIMATED: u32 = 8;
    pub const REFUSAL: u32 = 16;
    pub const RESUMED: u32 = 32;
}

/// What a failed attempt cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// It never reached a server.
    Nothing,
    /// A request that was refused.
    Request,
    /// Tokens of the prompt and of the answer.
    Tokens(u64, u64),
    /// Nobody knows: the most that it can have cost.
    Most,
}

/// What a failed attempt or request says.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub kind: Kind,
    /// The provider's own words, or ours.
    pub detail: String,
    pub cost: Cost,
}

impl Failure {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Failure { kind, detail: detail.into(), cost: if kind.may_cost() { Cost::Most } else { Cost::Request } }
    }

    pub fn costing(self, cost: Cost) -> Self {
        Failure { cost, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

/// A reply, understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    pub text: String,
    pub finish: Option<String>,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// The server sent no usage; the tokens are our estimate.
    pub estimated: bool,
    /// `text` is what stood in the field `refusal`.
    pub refusal: bool,
    /// The reply holds more than its text (tool calls, several choices, embeddings).
    pub rich: bool,
}

/// What was spent on a request, all attempts together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    pub requests: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub money: f64,
}

impl Spent {
    pub fn add(&mut self, other: &Spent) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.money += other.money;
    }

    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

/// Which API a path belongs to: how its replies are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Chat,
    Completion,
    Embedding,
    Other,
}

impl Api {
    pub fn of(path: &str) -> Self {
        match path.trim_end_matches('/') {
            p if p.ends_with("/chat/completions") => Api::Chat,
            p if p.ends_with("/completions") => Api::Completion,
            p if p.ends_with("/embeddings") => Api::Embedding,
            _ => Api::Other,
        }
    }
}

/// Where a request goes below its lane's base URL.
#[derive(Debug)]
pub struct Route {
    pub path: String,
    pub api: Api,
}

/// One request on its way.
#[derive(Debug)]
pub struct Job {
    pub id: u64,
    pub key: Key,
    /// The lane that carries it now.
    pub lane: usize,
    pub route: Arc<Route>,
    pub body: Bytes,
    /// Equal requests may share one answer.
    pub shareable: bool,
    /// Equal requests that come now wait for this one.
    pub leads: bool,
    /// Most tokens that the answer can have.
    pub bound: u64,
    pub attempts: u32,
    /// Attempts that ended in 429: bounded apart, for they say nothing about the request.
    pub throttled: u32,
    pub flags: u32,
    pub began: Option<Instant>,
    pub spent: Spent,
    /// What of it the writer was not told yet.
    pub owed: Spent,
    pub last: Option<Failure>,
    pub stream: Option<crate::stream::Feed>,
}

impl Job {
    /// It holds others back, was sent before or given up by another lane: not a new one.
    pub fn under_way(&self) -> bool {
        self.leads || self.began.is_some() || self.stream.is_some() || self.flags & flag::FALLBACK != 0
    }

    /// The outcome of a job that got no reply.
    pub fn fail(self, failure: Failure) -> Outcome {
        self.end(Err(failure), Bytes::new())
    }

    pub fn end(self, result: Result<Reply, Failure>, raw: Bytes) -> Outcome {
        Outcome {
            id: self.id,
            key: self.key,
            lane: self.lane,
            result,
            raw,
            attempts: self.attempts + self.throttled,
            micros: self.began.map_or(0, |began| u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)),
            flags: self.flags,
            spent: self.spent,
            owed: self.owed,
            stream: self.stream,
            held: false,
            partial: String::new(),
        }
    }
}

/// The one record of a request.
#[derive(Debug)]
pub struct Outcome {
    pub id: u64,
    pub key: Key,
    pub lane: usize,
    pub result: Result<Reply, Failure>,
    /// The reply as the server sent it.
    pub raw: Bytes,
    pub attempts: u32,
    /// From the first attempt's start to the last one's end.
    pub micros: u64,
    pub flags: u32,
    pub spent: Spent,
    /// What of it is not in the records file yet.
    pub owed: Spent,
    pub stream: Option<crate::stream::Feed>,
    /// It stands in the count of requests that are out or not yet durable; all others stand in `found`.
    pub held: bool,
    /// What had come of a streamed answer that failed.
    pub partial: String,
}

impl Outcome {
    pub fn recorded(&self) -> bool {
        self.result.as_ref().err().is_none_or(|failure| !failure.kind.unrecorded())
    }

    /// The same answer for another request that asked the same.
    pub fn copy_for(&self, id: u64, flags: u32) -> Outcome {
        Outcome {
            id,
            key: self.key,
            lane: self.lane,
            result: self.result.clone(),
            raw: self.raw.clone(),
            attempts: 0,
            micros: self.micros,
            flags: (self.flags & (flag::ESTIMATED | flag::REFUSAL | flag::FALLBACK)) | flags,
            spent: Spent::default(),
            owed: Spent::default(),
            stream: None,
            held: false,
            partial: String::new(),
        }
    }
}
