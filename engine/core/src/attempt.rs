//! One try of one request: what is sent, what comes back, what it means.

use crate::http::{Endpoint, Hints};
use crate::record::{Api, Failure, Job, Kind, Reply};
use crate::shape;
use crate::stream::{Collector, Feed};
use crate::watch::Out;
use bytes::Bytes;
use hyper::Uri;

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

    fn cancelled(partial: String) -> Self {
        let failure = Failure::new(Kind::Cancelled, "cancelled by its reader");
        Attempt { result: Err(failure), raw: Bytes::new(), shown: true, partial }
    }
}

/// One try of one request, its answer in one piece.
pub async fn whole(endpoint: &Endpoint, job: &Job, target: &Uri, out: &Out) -> (Attempt, Hints) {
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

fn understand(api: Api, status: u16, body: Bytes, sent: usize) -> Attempt {
    if status != 200 {
        return Attempt::failed(crate::reply::refuse(status, &body));
    }
    match crate::reply::read(api, &body, sent) {
        Ok(reply) => Attempt { result: Ok(reply), raw: body, shown: false, partial: String::new() },
        Err(failure) => Attempt::failed(failure),
    }
}

/// One try of a request that somebody waits for, its answer in one piece.
pub async fn at_once(endpoint: &Endpoint, job: &Job, target: &Uri, out: &Out, feed: &Feed) -> (Attempt, Hints) {
    let (attempt, hints) = tokio::select! {
        ended = whole(endpoint, job, target, out) => ended,
        () = feed.cancel() => (Attempt::cancelled(String::new()), Hints::default()),
    };
    if let Some(text) = attempt.result.as_ref().ok().map(|reply| &reply.text).filter(|text| !text.is_empty()) {
        feed.text(text.clone());
    }
    (attempt, hints)
}

/// One try of one request, its answer shown as it comes.
pub async fn streamed(endpoint: &Endpoint, job: &Job, target: &Uri, out: &Out, feed: &Feed) -> (Attempt, Hints) {
    let body = match shape::streaming(&job.body) {
        Ok(body) => Bytes::from(body),
        Err(words) => return (Attempt::failed(Failure::new(Kind::BadRequest, words)), Hints::default()),
    };
    let mut collector = Collector::default();
    let mut head = tokio::select! {
        head = endpoint.send(target, body, out) => match head {
            Ok(head) => head,
            Err(failure) => return (Attempt::failed(failure), Hints::default()),
        },
        () = feed.cancel() => return (Attempt::cancelled(String::new()), Hints::default()),
    };
    let hints = head.hints;
    if head.status != 200 || head.json {
        // An error, or a server that does not stream.
        let status = head.status;
        let attempt = match endpoint.read(head, out).await {
            Ok(body) => understand(job.route.api, status, body, job.body.len()),
            Err(failure) => Attempt::failed(failure),
        };
        if let Ok(reply) = &attempt.result {
            feed.text(reply.text.clone());
        }
        return (attempt, hints);
    }
    let broken = |failure: Failure, partial: &str| Attempt {
        result: Err(failure),
        raw: Bytes::new(),
        shown: !partial.is_empty(),
        partial: partial.to_string(),
    };
    loop {
        let chunk = tokio::select! {
            chunk = endpoint.chunk(&mut head, out) => chunk,
            // Dropping the head closes the connection.
            () = feed.cancel() => return (Attempt::cancelled(collector.partial().to_string()), hints),
        };
        match chunk {
            Ok(Some(bytes)) => {
                if let Err(failure) = collector.push(&bytes, feed) {
                    return (broken(failure, collector.partial()), hints);
                }
            }
            Ok(None) => break,
            Err(failure) => return (broken(failure, collector.partial()), hints),
        }
    }
    endpoint.keep(head);
    match collector.finish(feed) {
        Ok(body) => {
            let mut attempt = understand(Api::Chat, 200, body.into(), job.body.len());
            attempt.shown = attempt.result.is_err();
            (attempt, hints)
        }
        Err((failure, partial)) => (broken(failure, &partial), hints),
    }
}
