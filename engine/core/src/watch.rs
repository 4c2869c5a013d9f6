//! The requests that are out, each with the moment by which it must have moved.
//!
//! One alarm for all of them: a timer for each request, set twice and seldom needed, costs more than
//! looking through a few hundred moments when the earliest of them has come.

use crate::shared::Shared;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Why a request must not wait any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Late,
    Cut,
}

pub struct Watch {
    slots: RefCell<Slots>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
    /// No slot's moment is before this one.
    next: Option<Instant>,
    cut: bool,
}

#[derive(Default)]
struct Slot {
    until: Option<Instant>,
    end: Option<End>,
    waker: Option<Waker>,
}

impl Watch {
    pub fn new(shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Watch { slots: RefCell::default(), shared })
    }

    /// A place for one request that may never last beyond `limit`; it is given back when `Out` is dropped.
    pub fn enter(self: &Rc<Self>, limit: Instant) -> Out {
        let slots = &mut *self.slots.borrow_mut();
        let index = slots.free.pop().unwrap_or_else(|| {
            slots.all.push(Slot::default());
            slots.all.len() - 1
        });
        slots.all[index].end = slots.cut.then_some(End::Cut);
        Out { watch: self.clone(), index, limit, sent: Cell::new(false) }
    }

    /// Look no later than this.
    pub fn next(&self) -> Option<Instant> {
        self.slots.borrow().next
    }

    /// End those whose moment has come.
    pub fn sweep(&self, now: Instant) {
        let slots = &mut *self.slots.borrow_mut();
        if slots.next.is_none_or(|next| now < next) {
            return;
        }
        slots.next = None;
        for slot in &mut slots.all {
            match slot.until {
                Some(until) if until <= now => slot.finish(End::Late),
                Some(until) => slots.next = Some(slots.next.map_or(until, |next| next.min(until))),
                None => {}
            }
        }
    }

    /// End all that are out, and all that come later.
    pub fn cut(&self) {
        let slots = &mut *self.slots.borrow_mut();
        slots.cut = true;
        for slot in &mut slots.all {
            slot.finish(End::Cut);
        }
    }
}

impl Slot {
    fn finish(&mut self, end: End) {
        self.until = None;
        self.end.get_or_insert(end);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// One request that is out.
pub struct Out {
    watch: Rc<Watch>,
    index: usize,
    limit: Instant,
    sent: Cell<bool>,
}

impl Out {
    /// The server may have it: from here on it can cost something.
    pub fn sent(&self) -> bool {
        self.sent.get()
    }

    pub fn set_sent(&self, sent: bool) {
        self.sent.set(sent);
    }

    /// Its last moment has come, whatever it waits for.
    pub fn over(&self) -> bool {
        self.limit <= Instant::now()
    }

    /// From now on it must have moved by this moment.
    pub fn until(&self, at: Instant) {
        let at = at.min(self.limit);
        let slots = &mut *self.watch.slots.borrow_mut();
        slots.all[self.index].until = Some(at);
        if slots.next.is_none_or(|next| at < next) {
            slots.next = Some(at);
            self.watch.shared.wake.notify_one();
        }
    }

    /// Ready when the request must end; otherwise the task is woken then.
    pub fn poll(&self, context: &Context<'_>) -> Poll<End> {
        let slot = &mut self.watch.slots.borrow_mut().all[self.index];
        if let Some(end) = slot.end {
            return Poll::Ready(end);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let slots = &mut *self.watch.slots.borrow_mut();
        slots.all[self.index] = Slot::default();
        slots.free.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(1000)
    }

    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn watch() -> Rc<Watch> {
        Watch::new(Shared::new(1))
    }

    #[test]
    fn the_late_are_woken_and_the_others_are_not() {
        let (watch, start) = (watch(), Instant::now());
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let context = Context::from_waker(&waker);
        let (soon, later) = (watch.enter(far()), watch.enter(far()));
        soon.until(start + Duration::from_secs(1));
        later.until(start + Duration::from_secs(5));
        assert_eq!(watch.next(), Some(start + Duration::from_secs(1)));
        assert!(soon.poll(&context).is_pending() && later.poll(&context).is_pending());
        watch.sweep(start + Duration::from_millis(999));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        watch.sweep(start + Duration::from_secs(1));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!((soon.poll(&context), later.poll(&context)), (Poll::Ready(End::Late), Poll::Pending));
        assert_eq!(watch.next(), Some(start + Duration::from_secs(5)));
    }

    #[test]
    fn a_place_is_used_again_and_knows_nothing_of_its_last_use() {
        let (watch, start) = (watch(), Instant::now());
        let context = Context::from_waker(Waker::noop());
        let first = watch.enter(far());
        first.until(start);
        watch.sweep(start);
        assert_eq!(first.poll(&context), Poll::Ready(End::Late));
        drop(first);
        let second = watch.enter(far());
        assert_eq!(second.index, 0);
        assert!(second.poll(&context).is_pending());
    }

    #[test]
    fn a_cut_ends_those_that_are_out_and_those_that_come() {
        let watch = watch();
        let context = Context::from_waker(Waker::noop());
        let before = watch.enter(far());
        watch.cut();
        assert_eq!(before.poll(&context), Poll::Ready(End::Cut));
        assert_eq!(watch.enter(far()).poll(&context), Poll::Ready(End::Cut));
    }
}
