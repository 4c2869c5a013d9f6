//! Seeded hashing and randomness: every answer is a function of what these return.
//!
//! The functions are spelled out here, not taken from a library, because an answer must be the
//! same with every build and version: a changed constant changes every golden row. They are for
//! variety, never for secrets.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const KEY: u64 = 0xA076_1D64_78BD_642F;

/// The finaliser of splitmix64: spreads every bit of `x` over all bits.
pub(crate) const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The two halves of a 128-bit product, folded into one word.
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ (product >> 64) as u64
}

/// A 64-bit hash of bytes that goes on from `seed`, sixteen bytes a step.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed ^ GOLDEN;
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first_chunk::<16>() {
        let both = u128::from_le_bytes(*head);
        state = fold(both as u64 ^ KEY, (both >> 64) as u64 ^ state);
        rest = tail;
    }
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let both = u128::from_le_bytes(last);
    state = fold(both as u64 ^ KEY, (both >> 64) as u64 ^ state);
    fold(state ^ bytes.len() as u64, GOLDEN)
}

/// A stream of random numbers that a seed fixes (splitmix64).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        fold_high(self.next(), bound as u64) as usize
    }

    /// A number from `low` to `high`, both included; `low` if they are the wrong way round.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True `parts` times out of `whole`.
    pub(crate) fn chance(&mut self, parts: usize, whole: usize) -> bool {
        self.below(whole) < parts
    }

    /// A score from 0 to `highest`: the middle is likelier than the ends, and good a little
    /// likelier than bad, as judges give them.
    pub(crate) fn score(&mut self, highest: usize) -> usize {
        let (one, other) = (self.between(0, highest), self.between(0, highest));
        if self.chance(1, 3) {
            one.max(other)
        } else {
            (one + other + self.below(2)).div_euclid(2).min(highest)
        }
    }

    /// One of the items, which must not be empty.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

const fn fold_high(random: u64, bound: u64) -> u64 {
    ((random as u128 * bound as u128) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_have_not_changed() {
        assert_eq!(hash(0, b""), hash(0, b""));
        assert_eq!(Random::new(7).next(), mix(7_u64.wrapping_add(GOLDEN)));
        // Golden: a change here changes every answer of every recipe.
        assert_eq!(Random::new(0).next(), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn a_hash_depends_on_every_byte_and_on_the_length() {
        let text = [7_u8; 50];
        let whole = hash(1, &text);
        for place in 0..text.len() {
            let mut other = text;
            other[place] ^= 1;
            assert_ne!(hash(1, &other), whole, "byte {place}");
            assert_ne!(hash(1, &text[..place]), whole, "length {place}");
        }
        assert_ne!(hash(2, &text), whole);
    }

    #[test]
    fn scores_gather_in_the_middle() {
        let (mut random, mut counts) = (Random::new(5), [0; 5]);
        for _ in 0..10_000 {
            counts[random.score(4)] += 1;
        }
        assert!(counts.iter().all(|&count| count > 400) && counts[2] > counts[0] * 2, "{counts:?}");
        assert!(counts[4] > counts[0], "{counts:?}");
        assert_eq!(random.score(0), 0);
    }

    #[test]
    fn draws_keep_their_bounds_and_fill_them() {
        let mut random = Random::new(3);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[random.below(10)] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert_eq!(random.between(5, 5), 5);
        assert!((0..100).all(|_| (2..=4).contains(&random.between(2, 4))));
    }
}
