//! One endpoint: its connections, kept alive and used again, and one request on them.
//!
//! HTTP/1.1 with a pool of our own, because a lane wants exactly as many connections as it has
//! requests out; HTTP/2 would cap them at the server's stream limit.

use crate::address::{refusal, Guard, Resolver};
use crate::config::{seconds, LaneConfig};
use crate::record::{Failure, Kind};
use crate::retry;
use crate::watch::{End, Out};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::proxy::matcher::Matcher;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::timeout;
use tower_service::Service;

/// A connection and the future that moves its bytes.
///
/// Whoever uses the connection polls that future in its own task: a task of its own would be woken,
/// and would wake ours, for every response. Nobody polls it while it is idle; that the server has
/// closed it is seen at the next use.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Option<Driver>,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

/// Do `work` on a connection, until it is done or must end.
async fn drive<T>(driver: &mut Option<Driver>, out: &Out, work: impl Future<Output = T>) -> Result<T, End> {
    let mut work = pin!(work);
    poll_fn(|context| {
        // Twice: the first look may only have told the driver what is wanted of it.
        for _ in 0..2 {
            if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(context).is_ready()) {
                // Closed. A fault is seen by the work.
                *driver = None;
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
        }
        out.poll(context).map(Err)
    })
    .await
}

/// Connections idle longer than this are not trusted: servers close theirs after 5 s and more.
const IDLE: Duration = Duration::from_secs(4);

/// So long the end of a body may lag behind all that matters of it.
const LINGER: Duration = Duration::from_millis(50);

/// A model's endpoint.
pub struct Endpoint {
    base: Uri,
    prefix: String,
    /// Through a plain proxy the whole address stands in the request line.
    absolute: bool,
    headers: HeaderMap,
    connector: Connector,
    dial: Uri,
    /// The one idle for longest first.
    idle: RefCell<VecDeque<(Connection, Instant)>>,
    /// What no record may hold, longest first.
    secrets: Vec<String>,
    connect: Duration,
    first_byte: Duration,
    total: Duration,
    max_reply: usize,
}

enum Connector {
    Plain(HttpConnector<Resolver>),
    Tls(HttpsConnector<HttpConnector<Resolver>>),
    Tunnelled(HttpsConnector<Tunnel<HttpConnector<Resolver>>>),
}

/// A response whose head has come.
pub struct Head {
    pub status: u16,
    pub json: bool,
    pub hints: Hints,
    body: Incoming,
    connection: Connection,
}

/// What the headers say about limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints {
    pub retry_after: Option<Duration>,
    /// A window of the server is used up; it opens again after this.
    pub exhausted: Option<Duration>,
}

impl Endpoint {
    /// The error is a sentence about the address, the key or the headers.
    pub fn new(lane: &LaneConfig) -> Result<Self, String> {
        let base: Uri = lane.base_url.parse().map_err(|e| format!("the base URL {:?} is not one: {e}", lane.base_url))?;
        let host = base.host().ok_or_else(|| format!("the base URL {:?} names no host", lane.base_url))?.to_string();
        let secure = match base.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("the base URL {:?} begins neither with http:// nor with https://", lane.base_url)),
        };
        let guard = lane.public.then(|| Guard::new(&lane.allowed));
        if let Some(guard) = &guard {
            guard.host(&host).map_err(|refused| refused.to_string())?;
        }
        let mut http = HttpConnector::new_with_resolver(Resolver::new(guard));
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(seconds(lane.connect_seconds)));
        let proxy = if on_this_machine(&host) { None } else { Matcher::from_env().intercept(&base) };
        if lane.public && proxy.is_some() {
            return Err(format!(
                "{:?} would be asked through a proxy, which hides where it leads: name the host in NO_PROXY",
                place(&base)
            ));
        }
        if let Some(other) = proxy.as_ref().map(|proxy| proxy.uri()).filter(|uri| uri.scheme_str() != Some("http")) {
            return Err(format!(
                "the proxy for {:?} is {}://{}, and only http:// proxies can be used: set HTTP_PROXY or HTTPS_PROXY to one, or name the host in NO_PROXY",
                place(&base),
                other.scheme_str().unwrap_or("?"),
                place(other)
            ));
        }
        let mut headers = HeaderMap::new();
        let (connector, dial, absolute) = match (secure, &proxy) {
            (false, None) => (Connector::Plain(http), base.clone(), false),
            (false, Some(proxy)) => {
                if let Some(auth) = proxy.basic_auth() {
                    headers.insert(PROXY_AUTHORIZATION, auth.clone());
                }
                (Connector::Plain(http), proxy.uri().clone(), true)
            }
            (true, None) => (Connector::Tls(with_tls(http)?), base.clone(), false),
            (true, Some(proxy)) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), http);
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                (Connector::Tunnelled(with_tls(tunnel)?), base.clone(), false)
            }
        };
        headers.insert(HOST, header("the host", place(&base))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("wordmill/", env!("CARGO_PKG_VERSION"))));
        if let Some(key) = &lane.key {
            let mut value = header("the API key", &format!("Bearer {key}"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        for (name, value) in &lane.headers {
            let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is not a header's name"))?;
            let mut value = header(&format!("the header {name}"), value)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Endpoint {
            prefix: base.path().trim_end_matches('/').to_string(),
            base,
            absolute,
            headers,
            connector,
            dial,
            idle: RefCell::default(),
            secrets: secrets(lane),
            connect: seconds(lane.connect_seconds),
            first_byte: seconds(lane.first_byte_seconds),
            total: seconds(lane.total_seconds),
            max_reply: lane.max_reply_bytes,
        })
    }

    /// The address of a path below the base URL, as it stands in a request line.
    pub fn target(&self, path: &str) -> Result<Uri, String> {
        let mut text = String::new();
        if self.absolute {
            text = format!("http://{}", place(&self.base));
        }
        text = format!("{text}{}{path}", self.prefix);
        text.parse().map_err(|e| format!("{path:?} is not a path: {e}"))
    }

    /// Send, and wait for the head of the response.
    pub async fn send(&self, target: &Uri, body: Bytes, out: &Out) -> Result<Head, Failure> {
        let start = Instant::now();
        let wait = self.first_byte.min(self.total);
        out.until(start + wait);
        let ended = |end| match end {
            End::Late if out.over() => too_long(),
            End::Late => Failure::new(Kind::Timeout, format!("no answer within {} s", wait.as_secs_f64())),
            End::Cut => cut(),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = target.clone();
        *request.headers_mut() = self.headers.clone();
        loop {
            let (mut connection, fresh) = match self.reuse(out).await.map_err(ended)? {
                Some(connection) => (connection, false),
                // Boxed: rare, and large where every request would carry it.
                None => (drive(&mut None, out, Box::pin(self.open())).await.map_err(ended)??, true),
            };
            let Connection { sender, driver } = &mut connection;
            out.set_sent(true);
            match drive(driver, out, sender.try_send_request(request)).await.map_err(ended)? {
                Ok(response) => {
                    out.until(start + self.total);
                    let status = response.status().as_u16();
                    return Ok(Head {
                        status,
                        json: is_json(&response),
                        hints: hints(status, response.headers()),
                        body: response.into_body(),
                        connection,
                    });
                }
                Err(mut error) => match error.take_message() {
                    // Closed before anything was sent: nothing happened, so another connection.
                    Some(unsent) if !fresh => {
                        out.set_sent(false);
                        request = unsent;
                    }
                    _ => return Err(Failure::new(Kind::Dropped, words("the connection broke", error.error()))),
                },
            }
        }
    }

    /// The whole body; the connection goes back to the pool.
    pub async fn read(&self, mut head: Head, out: &Out) -> Result<Bytes, Failure> {
        let whole = self.whole(&mut head, out).await?;
        self.keep(head);
        Ok(whole)
    }

    async fn whole(&self, head: &mut Head, out: &Out) -> Result<Bytes, Failure> {
        let Some(first) = self.chunk(head, out).await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk(head, out).await? else { return self.fits(first) };
        let mut all = BytesMut::with_capacity(first.len() + second.len());
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(more) = self.chunk(head, out).await? {
            if all.len() + more.len() > self.max_reply {
                return Err(self.too_large());
            }
            all.extend_from_slice(&more);
        }
        self.fits(all.freeze())
    }

    /// The next piece of the body, None at its end.
    pub async fn chunk(&self, head: &mut Head, out: &Out) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = drive(&mut head.connection.driver, out, head.body.frame()).await.map_err(|end| self.late(end, out))? {
            let frame = frame.map_err(|error| Failure::new(Kind::Cut, words("the answer ended early", &error)))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Why a body that has begun is not read to its end.
    pub fn late(&self, end: End, out: &Out) -> Failure {
        match end {
            End::Late if out.over() => too_long(),
            End::Late => Failure::new(Kind::Timeout, format!("the answer was not whole within {} s", self.total.as_secs_f64())),
            End::Cut => cut(),
        }
    }

    /// The body was read to its end: the connection may carry another request.
    pub fn keep(&self, head: Head) {
        if head.connection.driver.is_some() {
            let now = Instant::now();
            self.idle.borrow_mut().push_back((head.connection, now));
            self.tidy(now);
        }
    }

    /// All that matters of the body was read: keep the connection if the rest comes at once.
    pub async fn leave(&self, mut head: Head, out: &Out) {
        let end = async { while let Ok(Some(_)) = self.chunk(&mut head, out).await {} };
        if timeout(LINGER, end).await.is_ok() {
            self.keep(head);
        }
    }

    /// Close connections that were idle for too long; when to look again, if some are left.
    pub fn tidy(&self, now: Instant) -> Option<Instant> {
        let idle = &mut *self.idle.borrow_mut();
        while idle.front().is_some_and(|(_, since)| now.saturating_duration_since(*since) > IDLE) {
            idle.pop_front();
        }
        idle.front().map(|(_, since)| *since + IDLE + Duration::from_millis(1))
    }

    /// Most bytes that an answer may have.
    pub fn max_reply(&self) -> usize {
        self.max_reply
    }

    /// No secret ever enters a record: to be asked before a text is shortened.
    pub fn scrub(&self, mut text: String) -> String {
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "[key]");
            }
        }
        text
    }

    fn fits(&self, body: Bytes) -> Result<Bytes, Failure> {
        if body.len() > self.max_reply {
            return Err(self.too_large());
        }
        Ok(body)
    }

    pub fn too_large(&self) -> Failure {
        Failure::new(Kind::TooLarge, format!("the reply is larger than {} bytes (setting max_reply_bytes)", self.max_reply))
    }

    /// A connection that is idle, once it says that it can take a request.
    async fn reuse(&self, out: &Out) -> Result<Option<Connection>, End> {
        loop {
            // The last one used first; those below it were idle for longer.
            let Some((mut connection, since)) = self.idle.borrow_mut().pop_back() else { return Ok(None) };
            if since.elapsed() > IDLE {
                self.idle.borrow_mut().clear();
                return Ok(None);
            }
            let Connection { sender, driver } = &mut connection;
            if drive(driver, out, sender.ready()).await?.is_ok() {
                return Ok(Some(connection));
            }
        }
    }

    async fn open(&self) -> Result<Connection, Failure> {
        let refused = |error: &(dyn Error + 'static)| match refusal(error) {
            Some(refused) => Failure::new(Kind::Rejected, refused.to_string()),
            None => Failure::new(Kind::Connect, words(&format!("cannot connect to {}", place(&self.dial)), error)),
        };
        let late =
            |_| Failure::new(Kind::Connect, format!("no connection to {} within {} s", place(&self.dial), self.connect.as_secs_f64()));
        match &self.connector {
            Connector::Plain(connector) => {
                let io = timeout(self.connect, connector.clone().call(self.dial.clone())).await.map_err(late)?.map_err(|e| refused(&e))?;
                shake(io).await
            }
            Connector::Tls(connector) => {
                let io = timeout(self.connect, connector.clone().call(self.dial.clone())).await.map_err(late)?.map_err(|e| refused(&*e))?;
                shake(io).await
            }
            Connector::Tunnelled(connector) => {
                let io = timeout(self.connect, connector.clone().call(self.dial.clone())).await.map_err(late)?.map_err(|e| refused(&*e))?;
                shake(io).await
            }
        }
    }
}

async fn shake<T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static>(io: T) -> Result<Connection, Failure> {
    let (sender, driver) = http1::Builder::new()
        .max_headers(200)
        .writev(false)
        .handshake(io)
        .await
        .map_err(|error| Failure::new(Kind::Dropped, words("the connection broke", &error)))?;
    let driver: Pin<Box<dyn Future<Output = hyper::Result<()>>>> = Box::pin(driver);
    Ok(Connection { sender, driver: Some(driver) })
}

fn with_tls<C>(inner: C) -> Result<HttpsConnector<C>, String> {
    let builder = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(|e| format!("the system's TLS roots cannot be read: {e}"))?;
    Ok(builder.https_or_http().enable_http1().wrap_connector(inner))
}

fn header(what: &str, value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| format!("{what} holds characters that no header can carry"))
}

fn is_json(response: &Response<Incoming>) -> bool {
    response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|kind| kind.contains("application/json"))
}

fn hints(status: u16, headers: &HeaderMap) -> Hints {
    // What a plain good answer has: nothing about limits.
    if status == 200 && headers.len() <= 3 {
        return Hints::default();
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let exhausted =
        [("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"), ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")]
            .iter()
            .filter(|(left, _)| text(left).is_some_and(|left| left.trim() == "0"))
            .filter_map(|(_, reset)| retry::reset(text(reset)?))
            .max();
    Hints { retry_after: retry::retry_after(text("retry-after-ms"), text("retry-after"), SystemTime::now()), exhausted }
}

/// Why a request has no reply when all that is out was cut.
fn cut() -> Failure {
    Failure::new(Kind::Cancelled, "the run was cancelled before this was answered")
}

/// Why a request has no reply when its own time is over.
fn too_long() -> Failure {
    Failure::new(Kind::Timeout, "all attempts together took too long (setting deadline_seconds)")
}

/// Host and port, without the name and the password that an address may hold.
fn place(uri: &Uri) -> &str {
    let authority = uri.authority().map_or("?", |authority| authority.as_str());
    authority.rsplit('@').next().unwrap_or(authority)
}

/// The key, and what the headers hold: whole, and behind a word such as `Bearer`.
fn secrets(lane: &LaneConfig) -> Vec<String> {
    let headers = lane.headers.values().flat_map(|value| [value.as_str(), value.rsplit(' ').next().unwrap_or_default()]);
    let mut all: Vec<String> = lane.key.as_deref().into_iter().chain(headers).map(str::trim).map(str::to_string).collect();
    // A shorter text is no secret, and stands in too many others.
    all.retain(|secret| secret.len() >= 4);
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all.dedup();
    all
}

/// An error with its causes, once each.
fn words(what: &str, error: &dyn Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Loopback never goes through a proxy.
fn on_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
