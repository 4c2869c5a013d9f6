//! One try of one request: what is sent, what comes back, what it means.

use crate::collect::Collector;
use crate::http::{Endpoint, Hints};
use crate::record::{Api, Cost, Failure, Job, Kind, Reply};
use crate::reply::{estimate, shorten};
use crate::shape;
use crate::stream::Feed;
use crate::watch::Out;
use bytes::Bytes;
use hyper::Uri;
use std::future::poll_fn;

/// How one try ended.
pub struct Attempt {
    pub result: Result<Reply, Failure>,
    pub raw: Bytes,
    /// Some of the answer was shown already: not tried again.
    pub shown: bool,
    pub partial: String,
}

impl Attempt {
    fn failed(failure: Failure) -> Self {
        Attempt { result: Err(failure), raw: Bytes::new(), shown: false, partial: String::new() }
    }

    /// What a try may have cost that was cancelled or never sent, unless it is known; no secrets; not too long.
    fn settled(mut self, endpoint: &Endpoint, out: &Out) -> Self {
        if let Err(failure) = &mut self.result {
            failure.cost = match (failure.cost, failure.kind == Kind::Cancelled, out.sent()) {
                (Cost::Request, true, true) => Cost::Most,
                (Cost::Request, true, false) => Cost::Nothing,
                (Cost::Most, _, false) => Cost::Request,
                (cost, ..) => cost,
            };
            failure.detail = shorten(&endpoint.scrub(std::mem::take(&mut failure.detail)));
        }
        self
    }
}

/// One try of a job, however its answer is wanted. `begun`: called when a streamed one has begun to come.
pub async fn one(endpoint: &Endpoint, job: &Job, target: &Uri, out: &Out, begun: &dyn Fn()) -> (Attempt, Hints) {
    let (attempt, hints) = match &job.stream {
        None => whole(endpoint, job, target, out).await,
        // Boxed: they are few, and every request would carry their size.
        Some(feed) if feed.whole() => Box::pin(at_once(endpoint, job, target, out, feed)).await,
        Some(feed) => Box::pin(streamed(endpoint, job, target, out, feed, begun)).await,
    };
    (attempt.settled(endpoint, out), hints)
}

/// Its answer in one piece.
async fn whole(endpoint: &Endpoint, job: &Job, target: &Uri, out: &Out) -> (Attempt, Hints) {
    let head = match endpoint.send(target, job.body.clone(), out).await {
        Ok(head) => head,
        Err(failure) => return (Attempt::failed(failure), Hints::default()),
    };
    let (status, hints) = (head.status, head.hints);
    let body = match endpoint.read(head, out).await {
        Ok(body) => body,
        Err(failure) => return (Attempt::failed(failure), hints),
    };
    (understand(job.route.api, status, body, job.body.len()), hints)
}

fn good(status: u16) -> bool {
    matches!(status, 200 | 201)
}

fn understand(api: Api, status: u16, body: Bytes, sent: usize) -> Attempt {
    if !good(status) {
        return Attempt::failed(crate::reply::refuse(status, &body));
    }
    match crate::reply::read(api, &body, sent) {
        Ok(reply) => Attempt { result: Ok(reply), raw: body, shown: false, partial: String::new() },
        Err(failure) => Attempt::failed(failure),
    }
}

fn cancelled() -> Failure {
    Failure::new(Kind::Cancelled, "cancelled by its reader")
}

/// Somebody waits for its answer in one piece, and may cancel it.
async fn at_once(endpoint: &Endpoint, job: &Job, target: &Uri, out: &Out, feed: &Feed) -> (Attempt, Hints) {
    let (attempt, hints) = tokio::select! {
        ended = whole(endpoint, job, target, out) => ended,
        () = feed.cancel() => (Attempt::failed(cancelled()), Hints::default()),
    };
    show(&attempt, feed);
    (attempt, hints)
}

fn show(attempt: &Attempt, feed: &Feed) {
    if let Some(text) = attempt.result.as_ref().ok().map(|reply| &reply.text).filter(|text| !text.is_empty()) {
        feed.text(text.clone());
    }
}

/// Its answer shown as it comes.
async fn streamed(endpoint: &Endpoint, job: &Job, target: &Uri, out: &Out, feed: &Feed, begun: &dyn Fn()) -> (Attempt, Hints) {
    let body = match shape::streaming(&job.body) {
        Ok(body) => Bytes::from(body),
        Err(words) => return (Attempt::failed(Failure::new(Kind::BadRequest, words)), Hints::default()),
    };
    // Dropping what is read closes the connection.
    let mut head = tokio::select! {
        head = endpoint.send(target, body, out) => match head {
            Ok(head) => head,
            Err(failure) => return (Attempt::failed(failure), Hints::default()),
        },
        () = feed.cancel() => return (Attempt::failed(cancelled()), Hints::default()),
    };
    let (status, hints) = (head.status, head.hints);
    if !good(status) || head.json {
        // An error, or a server that does not stream.
        let attempt = tokio::select! {
            body = endpoint.read(head, out) => match body {
                Ok(body) => understand(job.route.api, status, body, job.body.len()),
                Err(failure) => Attempt::failed(failure),
            },
            () = feed.cancel() => Attempt::failed(cancelled()),
        };
        show(&attempt, feed);
        return (attempt, hints);
    }
    let mut collector = Collector::default();
    let mut silent = true;
    let broken = loop {
        let chunk = tokio::select! {
            chunk = endpoint.chunk(&mut head, out) => chunk,
            () = feed.cancel() => break Some(cancelled()),
        };
        match chunk.and_then(|bytes| bytes.map(|bytes| collector.push(&bytes, feed)).transpose()) {
            Ok(Some(())) => {}
            Ok(None) => {
                endpoint.keep(head);
                break None;
            }
            Err(failure) => break Some(failure),
        }
        if silent && collector.shown() {
            silent = false;
            begun();
        }
        if collector.size() > endpoint.max_reply() {
            break Some(endpoint.too_large());
        }
        if collector.done() {
            // Some servers leave the body open behind their last word.
            endpoint.leave(head, out).await;
            break None;
        }
        if feed.full() {
            // Not read on until its reader has read: the server feels it.
            tokio::select! {
                () = feed.room() => {}
                () = feed.cancel() => break Some(cancelled()),
                end = poll_fn(|context| out.poll(context)) => break Some(endpoint.late(end, out)),
            }
        }
    };
    let result = match broken {
        None => collector.finish(feed),
        Some(failure) => Err(failure),
    };
    let mut attempt = match result {
        Ok(body) => understand(Api::Chat, 200, body.into(), job.body.len()),
        Err(failure) if failure.kind == Kind::Cancelled => {
            // It came as it was made: more than this was hardly paid for.
            Attempt::failed(failure.costing(Cost::Tokens(estimate(job.body.len()), estimate(collector.size()))))
        }
        Err(failure) => Attempt::failed(failure),
    };
    if attempt.result.is_err() {
        (attempt.shown, attempt.partial) = (collector.shown(), collector.partial().to_string());
    }
    (attempt, hints)
}
