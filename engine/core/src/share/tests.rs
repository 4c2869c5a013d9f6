use super::*;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;

fn lane(extra: &str) -> LaneConfig {
    serde_json::from_str(&format!(r#"{{"name":"m","base_url":"http://h/v1","model":"m"{extra}}}"#)).unwrap()
}

fn a_minute(limit: f64) -> LaneConfig {
    lane(&format!(r#","requests_per_minute":{limit}"#))
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[derive(Debug, Default)]
struct Calls(AtomicUsize);

impl Link for Calls {
    fn wanted(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn state(&self) -> Value {
        Value::Null
    }
}

/// A limit as it stands before a minute's worth of it is kept elsewhere, and one engine at it.
fn linked(limit: f64, now: Instant) -> (Arc<Limit>, Seat, Arc<Calls>) {
    let calls = Arc::new(Calls::default());
    let held = Arc::new(Limit::new([0; 16], Some(calls.clone()), now));
    let seat = held.join(&a_minute(limit), Arc::default(), now);
    (held, seat, calls)
}

fn granted(requests: f64, holders: u32) -> Grant {
    Grant { requests, holders, ..Grant::default() }
}

/// Most requests within a minute.
fn fullest(sent: &[Duration]) -> usize {
    sent.iter().enumerate().map(|(n, from)| sent[n..].partition_point(|at| *at < *from + ms(60_000))).max().unwrap_or(0)
}

#[test]
fn engines_of_one_process_take_turns_at_one_limit() {
    let start = Instant::now();
    let limit = Arc::new(Limit::new([0; 16], None, start));
    let seats: Vec<Seat> = (0..3).map(|_| limit.join(&a_minute(6000.0), Arc::default(), start)).collect();
    let mut sent = Vec::new();
    let mut each = [0; 3];
    for step in 0..90_000 {
        let now = start + ms(step);
        // The first always looks before the others.
        for (n, seat) in seats.iter().enumerate() {
            while seat.admit(now, 1).is_none() {
                seat.sent(1, now);
                sent.push(ms(step));
                each[n] += 1;
            }
        }
    }
    assert!(fullest(&sent) <= 6000, "{}", fullest(&sent));
    assert!(sent.len() as f64 >= 0.97 * 9000.0, "{}", sent.len());
    assert!(each.iter().all(|count| (2700..3300).contains(count)), "{each:?}");
}

#[test]
fn one_request_waits_for_no_more_than_a_turn_of_the_others() {
    let start = Instant::now();
    let limit = Arc::new(Limit::new([0; 16], None, start));
    let (many, one) = (limit.join(&a_minute(600.0), Arc::default(), start), limit.join(&a_minute(600.0), Arc::default(), start));
    let mut waited = None;
    for step in 0..5000 {
        let now = start + ms(step);
        while many.admit(now, 1).is_none() {
            many.sent(1, now);
        }
        if step >= 2000 && waited.is_none() && one.admit(now, 1).is_none() {
            one.sent(1, now);
            waited = Some(step - 2000);
        }
    }
    assert!(waited.is_some_and(|waited| waited <= 210), "{waited:?} ms at ten requests a second");
}

#[test]
fn the_smallest_limit_that_was_named_holds_for_all_until_its_engine_is_closed() {
    let now = Instant::now();
    let limit = Arc::new(Limit::new([0; 16], None, now));
    let fast = limit.join(&a_minute(60_000.0), Arc::default(), now);
    let slow = limit.join(&a_minute(60.0), Arc::default(), now);
    let unlimited = limit.join(&lane(""), Arc::default(), now);
    let mut out = 0;
    while unlimited.admit(now + ms(1), 1).is_none() {
        unlimited.sent(1, now);
        out += 1;
    }
    assert_eq!(out, 1);
    drop((slow, unlimited));
    assert_eq!(fast.admit(now + ms(100), 1), None, "98 have grown since");
}

#[test]
fn a_pause_holds_all_engines() {
    let now = Instant::now();
    let limit = Arc::new(Limit::new([0; 16], None, now));
    let (one, other) = (limit.join(&lane(""), Arc::default(), now), limit.join(&lane(""), Arc::default(), now));
    one.pause(now, ms(1500));
    assert_eq!((other.admit(now, 1), other.admit(now + ms(1500), 1)), (Some(now + ms(1500)), None));
}

#[test]
fn nothing_goes_out_without_a_slice_and_what_is_not_used_goes_back() {
    let now = Instant::now();
    let (limit, seat, calls) = linked(6000.0, now);
    assert!(seat.admit(now, 1).is_some());
    assert!(seat.admit(now, 1).is_some());
    assert_eq!(calls.0.load(Ordering::SeqCst), 1, "one call for one slice");
    let ask = limit.ask(now).unwrap();
    assert_eq!((ask.standing, ask.pause, ask.tokens), (Standing::New, Duration::ZERO, Want::default()));
    assert_eq!((ask.requests.least, ask.requests.spent), (1.0, 0.0));
    assert!((ask.requests.want - 9.8).abs() < 1e-9, "{:?}", ask.requests);
    limit.granted(now, now + ms(5), &granted(9.0, 2));
    for _ in 0..9 {
        assert_eq!(seat.admit(now + ms(6), 1), None);
        seat.sent(1, now + ms(6));
    }
    assert!(seat.admit(now + ms(6), 1).is_some());

    let later = now + ms(100);
    assert_eq!(limit.ask(later).map(|ask| ask.standing), Ok(Standing::Known));
    limit.granted(later, later, &granted(4.0, 2));
    assert_eq!(seat.admit(later + LEASE - ms(1), 1), None);
    assert!(seat.admit(later + LEASE, 1).is_some(), "its time is over");
    assert_eq!(limit.ask(later + LEASE).unwrap().requests.spent, -4.0);
}

#[test]
fn tokens_are_overdrawn_by_one_request_and_corrected_by_what_it_took() {
    let now = Instant::now();
    let limit = Arc::new(Limit::new([0; 16], Some(Arc::new(Calls::default())), now));
    let seat = limit.join(&lane(r#","tokens_per_minute":60000"#), Arc::default(), now);
    assert!(seat.admit(now, 2000).is_some());
    let ask = limit.ask(now).unwrap().tokens;
    // No more is ever held than 1 % of a minute's.
    assert_eq!((ask.least, ask.want), (600.0, 600.0));
    limit.granted(now, now, &Grant { tokens: 600.0, holders: 1, ..Grant::default() });
    assert_eq!(seat.admit(now, 2000), None);
    seat.sent(2000, now);
    seat.ended(2000, 1500);
    assert_eq!(limit.ask(now + ms(200)).unwrap().tokens.spent, 900.0);
}

#[test]
fn without_the_others_each_takes_its_share() {
    let now = Instant::now();
    for (holders, share) in [(4, 0.25), (0, 0.1)] {
        let (limit, seat, _) = linked(6000.0, now);
        let _ = seat.admit(now, 1);
        if holders > 0 {
            assert!(limit.ask(now).is_ok());
            limit.granted(now, now, &granted(5.0, holders));
        }
        limit.missed(now);
        let mut sent = Vec::new();
        for step in 0..60_000 {
            while seat.admit(now + ms(step), 1).is_none() {
                seat.sent(1, now + ms(step));
                sent.push(ms(step));
            }
        }
        let share_of_all = sent.len() as f64 / 6000.0;
        assert!(share_of_all <= share && share_of_all > share * 0.95, "{share_of_all} for {share}");
    }
}

#[test]
fn who_comes_back_keeps_to_its_share_until_as_many_are_seen_as_before() {
    let now = Instant::now();
    let (limit, seat, _) = linked(6000.0, now);
    let _ = seat.admit(now, 1);
    let ask = |at: Instant| {
        assert!(limit.ask(at).is_ok());
        at
    };
    limit.granted(ask(now), now, &granted(1.0, 3));
    limit.missed(now + ms(10));
    let back = now + ms(5000);
    assert_eq!(limit.ask(back).map(|ask| ask.standing), Ok(Standing::Back));
    limit.granted(back, back, &granted(0.0, 1));
    assert_eq!(seat.admit(back, 1), None, "by the clock");
    seat.sent(1, back);
    let told = limit.ask(back + ms(50)).unwrap();
    assert_eq!((told.standing, told.requests.spent, told.requests.want), (Standing::Known, 1.0, 0.0));
    limit.granted(back + ms(50), back + ms(50), &granted(0.0, 3));
    assert!(seat.admit(back + ms(60), 1).is_some(), "by slices again");
}

/// What keeps a limit for several, as far as these tests need it.
struct Kept {
    bucket: Bucket,
    seen: HashMap<usize, Instant>,
}

impl Kept {
    fn grant(&mut self, who: usize, ask: &Ask, now: Instant) -> Grant {
        self.seen.insert(who, now);
        self.seen.retain(|_, at| now < *at + GONE);
        let Want { per_second, most, least, want, spent } = ask.requests;
        self.bucket.fill(Rate { per_second, most }, now);
        if ask.standing == Standing::Back {
            self.bucket.level = self.bucket.level.min(0.0);
        }
        self.bucket.level = (self.bucket.level - spent).min(most);
        let enough = self.bucket.level >= least;
        let requests = if enough { want.min(self.bucket.level).max(0.0).floor() } else { 0.0 };
        self.bucket.level -= requests;
        let wait = if enough { Duration::ZERO } else { Duration::from_secs_f64((least - self.bucket.level) / per_second) };
        Grant { requests, wait, holders: self.seen.len() as u32, ..Grant::default() }
    }
}

/// Three processes that send what they may; `up` says whether the limit can be asked for, `alive` whether a
/// process still runs. When each request went out.
fn cluster(seconds: u64, up: impl Fn(u64) -> bool, alive: impl Fn(usize, u64) -> bool) -> Vec<Duration> {
    let start = Instant::now();
    let mut kept = Kept { bucket: Bucket::new(60.0, start), seen: HashMap::new() };
    let processes: Vec<(Arc<Limit>, Seat, Arc<Calls>)> = (0..3).map(|_| linked(6000.0, start)).collect();
    let mut sent = Vec::new();
    for step in 0..seconds * 1000 {
        let now = start + ms(step);
        for (who, (limit, seat, _)) in processes.iter().enumerate().filter(|(who, _)| alive(*who, step)) {
            if !up(step) {
                limit.missed(now);
            } else if let Ok(ask) = limit.ask(now) {
                let grant = kept.grant(who, &ask, now);
                limit.granted(now, now, &grant);
            }
            while seat.admit(now, 1).is_none() {
                seat.sent(1, now);
                sent.push(ms(step));
            }
        }
    }
    sent
}

#[test]
fn a_cluster_keeps_one_limit_and_uses_it() {
    let sent = cluster(90, |_| true, |_, _| true);
    assert!(fullest(&sent) <= 6000, "{}", fullest(&sent));
    assert!(sent.len() as f64 >= 0.97 * 9000.0, "{}", sent.len());
}

#[test]
fn what_a_dead_process_had_is_had_by_the_others_within_a_second() {
    let sent = cluster(60, |_| true, |who, step| who == 0 || step < 20_000);
    let after = sent.iter().filter(|at| **at >= ms(21_000)).count();
    assert!(after as f64 >= 0.97 * 3900.0, "{after} of 3900");
}

#[test]
fn an_outage_never_lets_more_out_and_ends_by_itself() {
    let sent = cluster(150, |step| !(20_000..50_000).contains(&step), |_, _| true);
    assert!(fullest(&sent) <= 6000, "{}", fullest(&sent));
    let during = sent.iter().filter(|at| (ms(21_000)..ms(50_000)).contains(*at)).count();
    let after = sent.iter().filter(|at| **at >= ms(51_000)).count();
    assert!(during as f64 >= 0.9 * 2900.0, "{during} of 2900");
    assert!(after as f64 >= 0.97 * 9900.0, "{after} of 9900");
}
