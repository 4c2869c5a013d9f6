//! How attempts and jobs end: accounts, another try, another lane, or the one record.

use crate::attempt::Attempt;
use crate::config::LaneConfig;
use crate::dispatcher::{Dispatcher, Follower, Sent, State, RECENT};
use crate::http::Hints;
use crate::json::Key;
use crate::lane::{Lane, Retry};
use crate::limits::Ended;
use crate::record::{flag, Api, Cost, Failure, Job, Kind, Outcome, Reply, Spent};
use crate::retry::backoff;
use crate::shape;
use crate::shared::lock;
use crate::writer::Order;
use bytes::Bytes;
use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// 429s that one request may meet before it fails.
const THROTTLED: u32 = 60;

impl Dispatcher {
    /// One try of a job has ended: account for it, and end the job or try again.
    pub fn ended(&self, sent: &Sent, mut job: Box<Job>, attempt: Attempt, hints: Hints) {
        let Sent { lane: index, started, most, estimated } = *sent;
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.out -= 1;
        let lane = &mut state.lanes[index];
        let real = match attempt.result.as_ref().map_err(|failure| failure.cost) {
            Ok(reply) => cost(&lane.config, 1, reply.input_tokens, reply.output_tokens),
            Err(Cost::Tokens(input, output)) => cost(&lane.config, 1, input, output),
            Err(Cost::Most) => most,
            Err(Cost::Request) => Spent { requests: 1, ..Spent::default() },
            Err(Cost::Nothing) => Spent::default(),
        };
        state.budget.settle(&most, &real);
        if state.budget.limited() {
            // Another lane may wait for what was reserved.
            self.shared.wake.notify_one();
        }
        job.spent.add(&real);
        job.owed.add(&real);
        let failure = attempt.result.as_ref().err();
        if failure.is_some_and(|failure| failure.kind == Kind::Cancelled) {
            lane.governor.withdrawn(started);
        } else {
            let detail = failure.map_or("", |failure| failure.detail.as_str());
            // Where nobody knows, a rate is not held back by the most that it can have been.
            let unknown = failure.is_some_and(|failure| failure.cost == Cost::Most);
            lane.governor.ended(
                now,
                &Ended {
                    started,
                    failure: failure.map(|failure| failure.kind),
                    estimated,
                    tokens: if unknown { estimated } else { real.tokens() },
                    output_tokens: real.output_tokens,
                },
                detail,
            );
        }
        let asked = hints.retry_after.filter(|_| failure.is_some_and(|failure| failure.kind.pushes_back()));
        if let Some(wait) = hints.exhausted.max(asked) {
            lane.governor.pause(now, wait);
        }
        let throttled = failure.is_some_and(|failure| failure.kind == Kind::Throttled);
        job.throttled += u32::from(throttled);
        job.attempts += u32::from(!throttled);
        {
            let mut metrics = lock(&self.shared.metrics);
            let shown = &mut metrics.lanes[index].1;
            match failure {
                None => {
                    shown.done += 1;
                    shown.latency.add(now.saturating_duration_since(started));
                    shown.trouble = None;
                }
                Some(failure) => shown.trouble = Some(failure.to_string()),
            }
            show(shown, lane);
        }
        if let Some(at) = lane.endpoint.tidy(now) {
            self.alarm(at);
        }
        let failure = match attempt.result {
            Ok(reply) => return self.close(state, *job, Ok(reply), attempt.raw, attempt.partial),
            Err(failure) => failure,
        };
        let wait = backoff(job.attempts + job.throttled, state.jitter.draw()).max(hints.retry_after.unwrap_or_default());
        let due = now + wait;
        let earliest = lane.governor.not_before().map_or(due, |moment| moment.max(due));
        let retry = self.may_retry(lane, &job, &failure, attempt.shown, earliest);
        if !retry {
            lane.governor.gave_up(failure.kind, &failure.detail);
            if let Some(words) = lane.governor.stopped() {
                lock(&self.shared.metrics).lanes[index].1.stopped.get_or_insert(words.to_string());
            }
        }
        let elsewhere = failure.kind.retried() || failure.kind.fatal();
        let movable = elsewhere && lane.governor.broken() && !attempt.shown && !self.draining.get();
        let fallback = lane.fallback.filter(|_| movable);
        if !retry && fallback.is_none() {
            return self.close(state, *job, Err(failure), Bytes::new(), attempt.partial);
        }
        *lock(&self.shared.metrics).retried.entry(failure.kind).or_default() += 1;
        self.shared.in_doubt.fetch_sub(1, Ordering::AcqRel);
        self.tell(Order::Spent(std::mem::take(&mut job.owed)));
        job.last = Some(failure);
        if let Some(to) = fallback {
            return self.divert(state, job, to);
        }
        state.retries_made += 1;
        state.lanes[index].retries.push(Reverse(Retry { due, order: state.retries_made, job }));
    }

    /// Give a job to the lane that its own falls back to.
    pub fn divert(&self, state: &mut State, mut job: Box<Job>, to: usize) {
        let from = job.lane;
        match shape::with_model(&job.body, &state.lanes[to].config.model) {
            Ok(body) => job.body = body.into(),
            // It was read before, so it can be read again; but nothing is lost if not.
            Err(words) => return self.close_unsent(state, *job, Failure::new(Kind::BadRequest, words)),
        }
        job.lane = to;
        job.flags |= flag::FALLBACK;
        job.attempts = 0;
        job.throttled = 0;
        state.lanes[to].last(job);
        state.lanes[from].waiting_since = None;
        lock(&self.shared.metrics).lanes[from].1.fallback_used += 1;
        self.shared.wake.notify_one();
    }

    fn may_retry(&self, lane: &Lane, job: &Job, failure: &Failure, shown: bool, earliest: Instant) -> bool {
        let bounded = if failure.kind == Kind::Throttled { job.throttled < THROTTLED } else { job.attempts < lane.config.attempts };
        let in_time = job.began.is_none_or(|began| earliest < lane.deadline(began));
        failure.kind.retried() && bounded && in_time && !shown && !self.draining.get()
    }

    /// The end of a request that was sent.
    fn close(&self, state: &mut State, job: Job, result: Result<Reply, Failure>, raw: Bytes, partial: String) {
        let (api, sent, key, shareable) = (job.route.api, job.body.len(), job.key, job.shareable && job.stream.is_none());
        let mut outcome = job.end(result, raw);
        outcome.held = true;
        outcome.partial = partial;
        if let Ok(reply) = &outcome.result {
            outcome.flags |= if reply.estimated { flag::ESTIMATED } else { 0 } | if reply.refusal { flag::REFUSAL } else { 0 };
        }
        // What a fallback said is not kept as the model's own answer.
        let own = outcome.result.is_ok() && outcome.flags & flag::FALLBACK == 0;
        let followers = if shareable { self.followers(state, &key, outcome.id, own) } else { Vec::new() };
        let copies = copies(&outcome, &followers);
        self.tell(Order::Record(Box::new(outcome), api, sent));
        for (copy, api, sent) in copies {
            self.tell(Order::Record(Box::new(copy), api, sent));
        }
    }

    fn followers(&self, state: &mut State, key: &Key, id: u64, good: bool) -> Vec<Follower> {
        if good && self.remembers {
            if state.recent[0].len() >= RECENT {
                state.recent[1] = std::mem::take(&mut state.recent[0]);
            }
            state.recent[0].insert(*key, id);
        }
        state.in_flight.remove(key).unwrap_or_default()
    }

    /// The end of a request that is not out.
    pub fn close_unsent(&self, state: &mut State, mut job: Job, mut failure: Failure) {
        if let Some(last) = job.last.take() {
            failure.detail = format!("{} (before: {}: {})", failure.detail, last.kind, last.detail);
        }
        let (api, sent, key, shareable) = (job.route.api, job.body.len(), job.key, job.shareable && job.stream.is_none());
        let outcome = job.fail(failure);
        let followers = if shareable { self.followers(state, &key, outcome.id, false) } else { Vec::new() };
        for (copy, api, sent) in copies(&outcome, &followers) {
            self.tell(Order::Record(Box::new(copy), api, sent));
        }
        self.shared.found.fetch_add(1, Ordering::AcqRel);
        self.tell(Order::Record(Box::new(outcome), api, sent));
    }

    /// The end of a job that waited for another try until its time was over.
    pub fn expire(&self, state: &mut State, mut job: Job) {
        let words = "all attempts together took too long (setting deadline_seconds)";
        let failure = match job.last.take() {
            Some(last) => Failure { detail: format!("{} ({words})", last.detail), ..last },
            None => Failure::new(Kind::Timeout, words),
        };
        self.close_unsent(state, job, failure);
    }

    pub fn tell(&self, order: Order) {
        if self.writer.send(order).is_err() {
            self.shared.fail("the writing thread has ended".into());
        }
    }
}

/// The same answer for those who asked the same.
fn copies(outcome: &Outcome, followers: &[Follower]) -> Vec<(Outcome, Api, usize)> {
    followers.iter().map(|follower| (outcome.copy_for(follower.id, flag::JOINED), follower.api, follower.sent)).collect()
}

pub fn cost(lane: &LaneConfig, requests: u64, input: u64, output: u64) -> Spent {
    let money = (input as f64 * lane.price_input + output as f64 * lane.price_output) / 1e6;
    Spent { requests, input_tokens: input, output_tokens: output, money }
}

pub fn show(shown: &mut crate::metrics::LaneMetrics, lane: &Lane) {
    shown.in_flight = lane.governor.in_flight();
    shown.limit = lane.governor.limit();
    shown.backed_off = lane.governor.backed_off;
    shown.queued = lane.going.len() + lane.queue.len() + lane.retries.len();
}
