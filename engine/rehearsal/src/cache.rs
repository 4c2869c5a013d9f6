//! What was made from a text that many requests share: compiled schemas, tools, system messages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::random;

const MOST: usize = 256;
/// Longer texts are read each time, so that the cache stays small.
const LONGEST: usize = 256 * 1024;

/// Values by the text that they were made from; it forgets all when it is full.
pub(crate) struct Cache<T>(Mutex<HashMap<u64, Entry<T>>>);

/// The text itself, because two texts may have one hash, and what was made from it.
type Entry<T> = (Box<str>, Arc<T>);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Cache<T> {
    /// The value of `text`, made now if it is not there.
    pub(crate) fn get(&self, text: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let key = random::hash(0, text.as_bytes());
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, value)) = entries.get(&key) {
            if **known == *text {
                return Arc::clone(value);
            }
        }
        let value = Arc::new(make());
        if text.len() <= LONGEST {
            if entries.len() >= MOST {
                entries.clear();
            }
            entries.insert(key, (text.into(), Arc::clone(&value)));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_once() {
        let cache = Cache::default();
        assert_eq!(*cache.get("a", || 1), 1);
        assert_eq!(*cache.get("a", || 2), 1);
        assert_eq!(*cache.get("b", || 2), 2);
        for number in 0..MOST {
            cache.get(&number.to_string(), || number);
        }
        assert!(cache.0.lock().unwrap().len() <= MOST);
        assert_eq!(*cache.get("a", || 3), 3);
    }
}
