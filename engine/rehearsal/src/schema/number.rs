//! Numbers between bounds, in exact decimal arithmetic: 0.1 times 3 is 0.3 here.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::random::Random;

/// Digits behind the point that are told apart, at most.
const MOST_SCALE: u32 = 12;
/// Bounds beyond this are no bounds to a random number.
const HUGE: i128 = 1_000_000_000_000_000_000;
/// How far a number may be from its only bound.
const REACH: i128 = 100;
/// Ranges of at most this many values are drawn as scores.
const SCORES: u64 = 20;

/// `mantissa / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    mantissa: i128,
    scale: u32,
}

impl Decimal {
    /// Reads a JSON number; None for what has more digits than are told apart here.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let part = part.trim_end_matches('0');
        let mantissa: i128 = format!("{whole}{part}").parse().ok()?;
        let scale = i32::try_from(part.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
        let number = if scale < 0 {
            Self { mantissa: mantissa.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?, scale: 0 }
        } else {
            Self { mantissa, scale: scale.unsigned_abs() }
        };
        (number.scale <= MOST_SCALE && number.mantissa.abs() <= HUGE * 1_000_000).then_some(number)
    }

    const fn whole(value: i128) -> Self {
        Self { mantissa: value, scale: 0 }
    }

    fn at(self, scale: u32) -> i128 {
        self.mantissa.saturating_mul(10_i128.pow(scale - self.scale))
    }

    fn is_huge(self) -> bool {
        self.mantissa.abs() / 10_i128.pow(self.scale) >= HUGE
    }
}

/// A bound, and whether it is excluded itself.
pub(super) type Bound = (Decimal, bool);

/// The higher of two lower bounds, or with `upper` the lower of two upper ones.
pub(super) fn tighter(one: Option<Bound>, other: Option<Bound>, upper: bool) -> Option<Bound> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    let scale = one.0.scale.max(other.0.scale);
    let order = one.0.at(scale).cmp(&other.0.at(scale));
    Some(match if upper { order.reverse() } else { order } {
        Ordering::Greater => one,
        Ordering::Less => other,
        Ordering::Equal => (one.0, one.1 || other.1),
    })
}

/// What a schema says about a number.
#[derive(Clone, Copy, Default)]
pub(super) struct Bounds {
    pub(super) integer: bool,
    pub(super) low: Option<Bound>,
    pub(super) high: Option<Bound>,
    pub(super) multiple: Option<Decimal>,
}

/// Multiples of `step / 10^scale`, from the `low`th to the `high`th.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    step: i128,
    scale: u32,
    low: i128,
    high: i128,
}

impl Number {
    /// The numbers within the bounds; None if there are none.
    pub(super) fn new(bounds: &Bounds) -> Option<Self> {
        let low = bounds.low.filter(|(low, _)| !low.is_huge());
        let high = bounds.high.filter(|(high, _)| !high.is_huge());
        if let Some(multiple) = bounds.multiple.filter(|multiple| multiple.mantissa > 0) {
            let step = if bounds.integer { whole_multiple(multiple)? } else { multiple };
            return Self::of_step(step, low, high);
        }
        if bounds.integer {
            return Self::of_step(Decimal::whole(1), low, high);
        }
        // Two digits behind the point, or as many as a narrow range needs.
        (2..=MOST_SCALE).find_map(|scale| {
            let found = Self::of_step(Decimal { mantissa: 1, scale }, low, high)?;
            (found.high - found.low >= 9 || scale == MOST_SCALE || bounds_meet(low, high)).then_some(found)
        })
    }

    fn of_step(step: Decimal, low: Option<Bound>, high: Option<Bound>) -> Option<Self> {
        let scale = [Some(step), low.map(|low| low.0), high.map(|high| high.0)].into_iter().flatten().map(|part| part.scale).max()?;
        let size = step.at(scale);
        let first = low.map(|(low, open)| {
            let at = low.at(scale);
            let first = -(-at).div_euclid(size);
            if open && first * size == at {
                first + 1
            } else {
                first
            }
        });
        let last = high.map(|(high, open)| {
            let at = high.at(scale);
            let last = at.div_euclid(size);
            if open && last * size == at {
                last - 1
            } else {
                last
            }
        });
        let reach = (Decimal::whole(REACH).at(scale) / size).max(REACH.min(10));
        let (low, high) = match (first, last) {
            (Some(first), Some(last)) => (first, last),
            (Some(first), None) => (first, first + reach),
            (None, Some(last)) => (if last > 0 { 0 } else { last - reach }, last),
            (None, None) => (0, reach),
        };
        (low <= high && high - low < i128::from(u64::MAX)).then_some(Self { step: size, scale, low, high })
    }

    /// Appends one of them.
    pub(super) fn write(&self, random: &mut Random, out: &mut String) {
        let span = (self.high - self.low) as u64;
        let offset = if (2..SCORES).contains(&span) {
            random.score(span as usize)
        } else {
            random.below(usize::try_from(span.saturating_add(1)).unwrap_or(usize::MAX))
        };
        let value = (self.low + offset as i128) * self.step;
        write_decimal(value, self.scale, out);
    }
}

fn bounds_meet(low: Option<Bound>, high: Option<Bound>) -> bool {
    low.zip(high).is_some_and(|((low, _), (high, _))| low == high)
}

/// The smallest whole number that is a multiple of `multiple`.
fn whole_multiple(multiple: Decimal) -> Option<Decimal> {
    let unit = 10_i128.checked_pow(multiple.scale)?;
    let (mut a, mut b) = (multiple.mantissa, unit);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Some(Decimal::whole(multiple.mantissa / a))
}

fn write_decimal(value: i128, scale: u32, out: &mut String) {
    let unit = 10_i128.pow(scale);
    let (whole, part) = (value.abs() / unit, value.abs() % unit);
    let sign = if value < 0 { "-" } else { "" };
    // Writing to a string cannot fail.
    let _ = write!(out, "{sign}{whole}");
    if part != 0 {
        let digits = format!("{part:0width$}", width = scale as usize);
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(integer: bool, low: Option<&str>, high: Option<&str>, multiple: Option<&str>, open: bool) -> Bounds {
        let bound = |text: Option<&str>| text.map(|text| (Decimal::parse(text).unwrap(), open));
        Bounds { integer, low: bound(low), high: bound(high), multiple: multiple.map(|text| Decimal::parse(text).unwrap()) }
    }

    fn draws(bounds: &Bounds) -> Vec<String> {
        let number = Number::new(bounds).unwrap();
        let mut random = Random::new(1);
        let mut all: Vec<_> = (0..500)
            .map(|_| {
                let mut out = String::new();
                number.write(&mut random, &mut out);
                out
            })
            .collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn decimals_are_read_exactly() {
        let read = |text| Decimal::parse(text).map(|number| (number.mantissa, number.scale));
        assert_eq!(read("-12.50"), Some((-125, 1)));
        assert_eq!(read("1e3"), Some((1000, 0)));
        assert_eq!(read("2.5E-3"), Some((25, 4)));
        assert_eq!(read("1.7976931348623157e308"), None);
        assert_eq!(read("-0.5"), Some((-5, 1)));
    }

    #[test]
    fn bounds_are_kept() {
        assert_eq!(draws(&bounds(true, Some("1"), Some("3"), None, false)), ["1", "2", "3"]);
        assert_eq!(draws(&bounds(true, Some("1"), Some("3"), None, true)), ["2"]);
        assert_eq!(draws(&bounds(true, Some("0.5"), Some("2.5"), None, false)), ["1", "2"]);
        assert_eq!(draws(&bounds(false, Some("0"), Some("0.5"), Some("0.1"), false)), ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]);
        assert_eq!(draws(&bounds(true, Some("-10"), Some("10"), Some("5"), true)), ["-5", "0", "5"]);
        assert_eq!(draws(&bounds(true, Some("0"), Some("9"), Some("1.5"), false)), ["0", "3", "6", "9"]);
        assert_eq!(draws(&bounds(false, Some("2.5"), Some("2.5"), None, false)), ["2.5"]);
        assert!(draws(&bounds(false, Some("0"), Some("0.001"), None, true)).len() > 5);
        assert!(draws(&bounds(true, None, Some("-1000"), None, false)).iter().all(|text| text.parse::<i64>().unwrap() <= -1000));
    }

    #[test]
    fn an_empty_range_is_told() {
        assert!(Number::new(&bounds(true, Some("1"), Some("2"), None, true)).is_none());
        assert!(Number::new(&bounds(false, Some("3"), Some("2"), None, false)).is_none());
        assert!(Number::new(&bounds(true, Some("1"), Some("4"), Some("5"), false)).is_none());
    }
}
