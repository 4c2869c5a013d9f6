//! A lane as the engine's thread holds it: its endpoint, its limits, and the jobs that wait for it.

use crate::config::{seconds, LaneConfig};
use crate::http::Endpoint;
use crate::limits::Governor;
use crate::record::Job;
use crate::share::Seat;
use crate::stream::Feed;
use hyper::Uri;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

pub struct Lane {
    pub config: LaneConfig,
    pub endpoint: Rc<Endpoint>,
    pub governor: Governor,
    /// Those under way, and streams: these wait for no caller who is slow to poll.
    pub going: VecDeque<Box<Job>>,
    /// New ones.
    pub queue: VecDeque<Box<Job>>,
    pub retries: BinaryHeap<Reverse<Retry>>,
    pub fallback: Option<usize>,
    /// Addresses of the few paths that are used.
    pub targets: Vec<(String, Rc<Uri>)>,
    pub waiting_since: Option<Instant>,
    /// No job that waits here is out of time before this moment.
    pub expiry: Option<Instant>,
    /// A lane that falls back to this one waits until there is room.
    pub sought: bool,
}

impl Lane {
    pub fn new(config: &LaneConfig, fallback: Option<usize>, seat: Seat, now: Instant) -> Result<Self, String> {
        Ok(Lane {
            endpoint: Rc::new(Endpoint::new(config).map_err(|words| format!("model {:?}: {words}", config.name))?),
            governor: Governor::new(config, seat, now),
            going: VecDeque::new(),
            queue: VecDeque::new(),
            retries: BinaryHeap::new(),
            fallback,
            targets: Vec::new(),
            waiting_since: None,
            expiry: None,
            sought: false,
            config: config.clone(),
        })
    }

    /// When all attempts of a job together have taken too long.
    pub fn deadline(&self, began: Instant) -> Instant {
        began + seconds(self.config.deadline_seconds)
    }

    /// Put a job that was sent before, or is to be sent next, in front of the others.
    pub fn first(&mut self, job: Box<Job>) {
        self.watch(&job);
        if job.under_way() {
            self.going.push_front(job);
        } else {
            self.queue.push_front(job);
        }
    }

    /// Put a job that another lane gave up behind those that were here before, and ahead of what is new.
    pub fn last(&mut self, job: Box<Job>) {
        self.watch(&job);
        self.going.push_back(job);
    }

    fn watch(&mut self, job: &Job) {
        if let Some(deadline) = job.began.map(|began| self.deadline(began)) {
            self.expiry = Some(self.expiry.map_or(deadline, |expiry| expiry.min(deadline)));
        }
    }

    /// Jobs that wait here and whose time is over.
    pub fn expired(&mut self, now: Instant) -> Vec<Job> {
        if self.expiry.is_none_or(|expiry| now < expiry) {
            return Vec::new();
        }
        let (mut over, mut left) = (Vec::new(), VecDeque::with_capacity(self.going.len()));
        self.expiry = None;
        for job in std::mem::take(&mut self.going) {
            if job.began.is_some_and(|began| self.deadline(began) <= now) {
                over.push(*job);
            } else {
                self.watch(&job);
                left.push_back(job);
            }
        }
        self.going = left;
        over
    }

    /// Streams that wait here and of which `which` is true.
    pub fn streams(&mut self, which: impl Fn(&Feed) -> bool) -> Vec<Job> {
        self.waiting(|job| job.stream.as_ref().is_some_and(&which))
    }

    /// Jobs with these numbers that are not out.
    pub fn withdraw(&mut self, ids: &Range<u64>) -> Vec<Job> {
        let wanted = |job: &Job| job.stream.is_none() && ids.contains(&job.id);
        let mut found = self.waiting(wanted);
        let (more, left) = std::mem::take(&mut self.queue).into_iter().partition::<Vec<_>, _>(|job| wanted(job));
        self.queue = left.into();
        found.extend(more.into_iter().map(|job| *job));
        found
    }

    /// Those under way that are not out and of which `wanted` is true.
    fn waiting(&mut self, wanted: impl Fn(&Job) -> bool) -> Vec<Job> {
        let (found, left) = std::mem::take(&mut self.going).into_iter().partition::<Vec<_>, _>(|job| wanted(job));
        self.going = left.into();
        let (more, left) = std::mem::take(&mut self.retries).into_iter().partition::<Vec<_>, _>(|retry| wanted(&retry.0.job));
        self.retries = left.into();
        found.into_iter().chain(more.into_iter().map(|retry| retry.0.job)).map(|job| *job).collect()
    }

    /// The address of a path below the base URL.
    pub fn target(&mut self, path: &str) -> Result<Rc<Uri>, String> {
        if let Some((_, target)) = self.targets.iter().find(|(known, _)| known == path) {
            return Ok(target.clone());
        }
        let target = Rc::new(self.endpoint.target(path)?);
        self.targets.push((path.into(), target.clone()));
        Ok(target)
    }
}

pub struct Retry {
    pub due: Instant,
    pub order: u64,
    pub job: Box<Job>,
}

impl PartialEq for Retry {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}
impl Eq for Retry {}
impl PartialOrd for Retry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Retry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}
