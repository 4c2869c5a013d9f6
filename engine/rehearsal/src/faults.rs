//! Faults on purpose: which ones there are, and which request gets which.
//!
//! A request draws at most one fault, by a hash of the server's seed, of its bytes and of how often
//! those bytes came before. So the same requests in any order get the same faults, and the same
//! request asked again may be answered.

use crate::random;

/// What models write when they decline. Nothing else that is written here begins so.
pub(crate) const REFUSALS: &[&str] = &[
    "I'm sorry, but I can't help with that request.",
    "I'm sorry, but I can't assist with that.",
    "I cannot assist with that. If there is something else you need, I would be glad to help.",
    "I can't help with that. It could cause harm to the people involved.",
    "I'm unable to provide that content, as it goes against my guidelines.",
    "I apologize, but I cannot fulfill this request.",
    "Sorry, I can't comply with this request.",
    "I won't be able to help with this, because it may be unsafe.",
];

/// What models write about themselves.
pub(crate) const AS_AN_AI: &[&str] = &[
    "As an AI language model, I do not have personal experiences or opinions.",
    "As an AI language model, I see this only from the outside, but here are some general thoughts.",
    "As an AI language model, I have no access to current events, so please take this with care.",
    "As an AI language model, I can only describe this in general terms.",
];

/// What can be made to go wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429 with `Retry-After`.
    TooManyRequests,
    /// 401, as for a wrong key.
    Unauthorized,
    /// 500.
    ServerError,
    /// 503.
    Unavailable,
    /// The connection is closed without an answer.
    Drop,
    /// The connection is closed in the middle of the body.
    Truncate,
    /// 200 with a body that is not JSON.
    Malformed,
    /// 200 with an empty content.
    Empty,
    /// A right answer, but late.
    Slow,
    /// The model declines, in the words that models use.
    Refuse,
    /// JSON that breaks the schema, or none of the choices. Only where there are any.
    Schema,
    /// A text that says "As an AI language model". Only for free text.
    AsAnAi,
}

impl Fault {
    /// All of them, in the order in which the statistics list them.
    pub const ALL: [Self; 12] = [
        Self::TooManyRequests,
        Self::Unauthorized,
        Self::ServerError,
        Self::Unavailable,
        Self::Drop,
        Self::Truncate,
        Self::Malformed,
        Self::Empty,
        Self::Slow,
        Self::Refuse,
        Self::Schema,
        Self::AsAnAi,
    ];

    /// The name on the command line and in the statistics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooManyRequests => "429",
            Self::Unauthorized => "401",
            Self::ServerError => "500",
            Self::Unavailable => "503",
            Self::Drop => "drop",
            Self::Truncate => "truncate",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::Slow => "slow",
            Self::Refuse => "refuse",
            Self::Schema => "schema",
            Self::AsAnAi => "as-an-ai",
        }
    }
}

/// How often each fault is to happen.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A fault happens to draws below its bound that no earlier one took.
    bounds: Vec<(Fault, f64)>,
}

impl Faults {
    /// From names and fractions of all requests.
    ///
    /// # Errors
    /// In words: an unknown name, a fraction outside 0 to 1, or a sum above 1.
    pub fn new<'a>(chances: impl IntoIterator<Item = (&'a str, f64)>) -> Result<Self, String> {
        let mut bounds = Vec::new();
        let mut sum = 0.0;
        for (name, fraction) in chances {
            let Some(fault) = Fault::ALL.into_iter().find(|fault| fault.name() == name) else {
                let known: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
                return Err(format!("there is no fault {name:?}; there are {}", known.join(", ")));
            };
            if !(0.0..=1.0).contains(&fraction) {
                return Err(format!("the fault {name:?} has the fraction {fraction}; it must be from 0 to 1"));
            }
            sum += fraction;
            bounds.push((fault, sum));
        }
        if sum > 1.0 + 1e-9 {
            return Err(format!("the fractions of the faults add up to {sum}, which is more than 1"));
        }
        Ok(Self { bounds })
    }

    /// The fault of a request, if any.
    ///
    /// seed: the server's.  digest: of the request's bytes.  before: how often these bytes came.
    pub(crate) fn draw(&self, seed: u64, digest: u64, before: u64) -> Option<Fault> {
        if self.bounds.is_empty() {
            return None;
        }
        let bits = random::mix(random::mix(seed ^ digest).wrapping_add(before));
        let draw = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        self.bounds.iter().find(|(_, bound)| draw < *bound).map(|(fault, _)| *fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_happens_as_often_as_asked() {
        let faults = Faults::new([("429", 0.1), ("drop", 0.0), ("as-an-ai", 0.3)]).unwrap();
        let mut counts = [0; 3];
        for digest in 0..100_000 {
            match faults.draw(5, random::mix(digest), 0) {
                None => counts[0] += 1,
                Some(Fault::TooManyRequests) => counts[1] += 1,
                Some(Fault::AsAnAi) => counts[2] += 1,
                Some(other) => panic!("{other:?} was not asked for"),
            }
        }
        assert!((59_000..61_000).contains(&counts[0]), "{counts:?}");
        assert!((9_600..10_400).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn asking_again_draws_again() {
        let faults = Faults::new([("500", 0.5)]).unwrap();
        let draws: Vec<_> = (0..20).map(|before| faults.draw(1, 42, before)).collect();
        assert!(draws.contains(&None) && draws.contains(&Some(Fault::ServerError)));
        assert_eq!(draws, (0..20).map(|before| faults.draw(1, 42, before)).collect::<Vec<_>>());
    }

    #[test]
    fn wrong_chances_are_said() {
        let say = |name, fraction| Faults::new([(name, fraction)]).unwrap_err();
        assert!(say("drp", 0.1).starts_with("there is no fault \"drp\"; there are 429, 401, 500, 503, drop,"));
        assert_eq!(say("drop", 1.5), "the fault \"drop\" has the fraction 1.5; it must be from 0 to 1");
        assert_eq!(say("drop", f64::NAN), "the fault \"drop\" has the fraction NaN; it must be from 0 to 1");
        let sum = Faults::new([("drop", 0.75), ("500", 0.5)]).unwrap_err();
        assert_eq!(sum, "the fractions of the faults add up to 1.25, which is more than 1");
    }
}
