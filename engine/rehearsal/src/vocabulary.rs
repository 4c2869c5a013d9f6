//! Single words and names: for tags, keys, titles, people and places.

/// Single words, for tags, keys and one-word answers.
pub(crate) const NOUNS: &[&str] = &[
    "garden", "letter", "bridge", "market", "winter", "signal", "harbour", "journey", "balance", "window", "mirror", "lantern", "pattern",
    "shelter", "ticket", "village", "compass", "library", "supply", "measure", "promise", "quality", "service", "season", "support",
    "feature", "network", "record", "budget", "comfort", "delivery", "schedule",
];

pub(crate) const QUALITIES: &[&str] = &[
    "quiet", "northern", "early", "simple", "careful", "bright", "hidden", "steady", "plain", "golden", "patient", "narrow", "honest",
    "distant", "gentle", "broken", "open", "final", "modern", "reliable", "compact", "familiar", "sudden", "common",
];

pub(crate) const FIRST_NAMES: &[&str] = &[
    "Amara", "Ben", "Clara", "Dmitri", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kavya", "Leo", "Mina", "Noah", "Olga", "Pablo",
    "Quinn", "Rosa", "Samir", "Tessa", "Umar", "Vera", "Wei", "Yara",
];

pub(crate) const LAST_NAMES: &[&str] = &[
    "Adeyemi", "Berger", "Costa", "Duval", "Eriksen", "Fischer", "Garcia", "Hughes", "Ivanov", "Jansen", "Kumar", "Lindgren", "Moreau",
    "Nakamura", "Okafor", "Petrov", "Quist", "Rossi", "Santos", "Tanaka", "Ueda", "Vogel", "Walsh", "Zhang",
];

pub(crate) const CITIES: &[&str] = &[
    "Lisbon", "Oslo", "Nairobi", "Kyoto", "Leeds", "Porto", "Ghent", "Quito", "Perth", "Cork", "Bergen", "Tunis", "Graz", "Lyon",
    "Halifax", "Pune",
];

pub(crate) const COUNTRIES: &[&str] = &[
    "Portugal",
    "Norway",
    "Kenya",
    "Japan",
    "Canada",
    "Belgium",
    "Ecuador",
    "Australia",
    "Ireland",
    "Tunisia",
    "Austria",
    "France",
    "India",
    "Chile",
];

pub(crate) const COLOURS: &[&str] = &["blue", "green", "red", "white", "black", "yellow", "grey", "brown", "orange", "violet"];
