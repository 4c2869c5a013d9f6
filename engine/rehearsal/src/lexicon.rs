//! The words that free text is made of.
//!
//! Everything happens in the past tense, so that a verb fits any subject; verbs stand with the
//! objects that they make sense with. A phrase brings its own article.

/// A verb in the past tense and as it stands after "to".
pub(crate) type Verb = (&'static str, &'static str);

/// Verbs, and objects that each of them can have.
pub(crate) struct Field {
    pub(crate) verbs: &'static [Verb],
    pub(crate) objects: &'static [&'static str],
    /// Whether a word of the request can be an object here.
    pub(crate) open: bool,
}

pub(crate) const FIELDS: [Field; 6] = [
    Field {
        verbs: &[
            ("read", "read"), ("checked", "check"), ("signed", "sign"), ("copied", "copy"), ("corrected", "correct"),
            ("rewrote", "rewrite"), ("filed", "file"), ("printed", "print"), ("quoted", "quote"), ("mislaid", "mislay"),
            ("translated", "translate"), ("summarised", "summarise"), ("shared", "share"), ("kept", "keep"),
        ],
        objects: &[
            "the first report", "a long letter", "the old map", "the minutes of the meeting", "a short notice", "the final bill",
            "two contracts", "the list of names", "an unsigned form", "the whole file", "a page of figures", "the instructions",
            "the weekly summary", "an angry message", "the second draft", "every receipt", "the timetable", "a printed copy",
            "the answers", "three old letters",
        ],
        open: false,
    },
    Field {
        verbs: &[
            ("repaired", "repair"), ("cleaned", "clean"), ("moved", "move"), ("measured", "measure"), ("tested", "test"),
            ("painted", "paint"), ("replaced", "replace"), ("opened", "open"), ("carried away", "carry away"), ("sold", "sell"),
            ("borrowed", "borrow"), ("inspected", "inspect"), ("took apart", "take apart"), ("put back", "put back"),
        ],
        objects: &[
            "the broken lamp", "the garden gate", "a box of tools", "the heavy door", "an empty shelf", "the kitchen window",
            "the spare wheel", "a set of keys", "the water pump", "the northern bridge", "two wooden chairs", "the old engine",
            "a coil of wire", "the front steps", "the small boat", "an iron stove", "the upper floor", "the bell", "a crate of apples",
            "the signal box",
        ],
        open: false,
    },
    Field {
        verbs: &[
            ("discussed", "discuss"), ("questioned", "question"), ("explained", "explain"), ("defended", "defend"),
            ("postponed", "postpone"), ("considered", "consider"), ("raised", "raise"), ("mentioned", "mention"),
            ("weighed", "weigh"), ("settled", "settle"), ("understood", "understand"), ("described", "describe"),
            ("changed", "change"), ("reviewed", "review"), ("reconsidered", "reconsider"), ("dropped", "drop"),
        ],
        objects: &[
            "the plan", "a simpler rule", "the main objection", "the price", "an earlier promise", "the new arrangement",
            "the reasons for the delay", "a second proposal", "the terms of the agreement", "the whole idea", "the risk",
            "an unusual request", "the next step", "the cost of waiting", "a fair compromise", "the question of safety",
            "the shift plan", "a small exception", "the result", "the schedule for spring",
        ],
        open: true,
    },
    Field {
        verbs: &[
            ("met", "meet"), ("helped", "help"), ("called", "call"), ("thanked", "thank"), ("warned", "warn"), ("taught", "teach"),
            ("trusted", "trust"), ("visited", "visit"), ("hired", "hire"), ("asked", "ask"), ("reassured", "reassure"),
            ("followed", "follow"), ("introduced", "introduce"), ("remembered", "remember"),
        ],
        objects: &[
            "the neighbours", "a former colleague", "the new doctor", "two visitors", "the families", "an honest dealer",
            "the night shift", "the owner of the shop", "a young apprentice", "the drivers", "everyone in the room",
            "the youngest member", "an old friend", "the patients", "the inspector", "a group of students", "the other side",
            "the volunteers", "the caretaker", "several farmers",
        ],
        open: false,
    },
    Field {
        verbs: &[
            ("noticed", "notice"), ("found", "find"), ("missed", "miss"), ("recorded", "record"), ("expected", "expect"),
            ("welcomed", "welcome"), ("ignored", "ignore"), ("feared", "fear"), ("caused", "cause"), ("remembered", "remember"),
            ("watched", "watch"), ("reported", "report"), ("predicted", "predict"), ("survived", "survive"),
        ],
        objects: &[
            "a slow change", "the first signs of trouble", "a better way", "the difference", "an odd silence", "a small mistake",
            "the end of the season", "the sudden frost", "a fall in prices", "the noise in the hall", "a pattern", "the shortage",
            "a long dry summer", "the mood in the room", "an empty seat", "the gap", "a rise in demand", "the storm",
            "the missing part", "a narrow escape",
        ],
        open: true,
    },
    Field {
        verbs: &[
            ("studied", "study"), ("compared", "compare"), ("counted", "count"), ("examined", "examine"), ("sorted", "sort"),
            ("listed", "list"), ("tried", "try"), ("chose", "choose"), ("preferred", "prefer"), ("needed", "need"),
            ("used", "use"), ("looked for", "look for"), ("talked about", "talk about"), ("asked about", "ask about"),
            ("wrote about", "write about"), ("paid for", "pay for"),
        ],
        objects: &[
            "three ways of doing it", "the samples", "the cheaper kind", "the figures for May", "a different method",
            "the local market", "the usual suppliers", "every part of it", "the older models", "a lighter material",
            "two possible routes", "the quiet hours", "the best of them", "a dozen cases", "the available rooms",
            "the public accounts", "several answers", "the evening trains", "a larger size", "the simplest one",
        ],
        open: true,
    },
];

pub(crate) const SUBJECTS: &[&str] = &[
    "the old teacher", "a quiet nurse", "the harbour master", "my neighbour", "the committee", "a young driver",
    "the engineer", "our guide", "the manager", "two of the students", "the librarian", "a retired judge", "the cook",
    "her brother", "the farmers", "one of the editors", "the town council", "the night guard", "a patient clerk",
    "the team", "his daughter", "the mechanic", "several members", "the chief of staff", "an older woman",
    "the people upstairs", "the shop assistant", "a stranger", "the gardener", "most of the crew", "the new director",
    "the postman", "their lawyer", "the whole family", "a friend of mine", "the carpenter", "the first visitor",
    "the young couple", "someone from the office", "the pilot", "the housekeeper", "a careful buyer", "the accountant",
    "the villagers", "the second speaker", "our landlord", "the research group", "a local reporter", "the pharmacist",
    "the choir", "everyone on the board", "the electrician", "a former mayor", "the waiter", "the other tenants",
    "the head of the school", "an experienced sailor", "the technician", "the baker", "both sisters", "the organiser",
    "the supplier", "a tired traveller", "the judge",
];

pub(crate) const TIMES: &[&str] = &[
    "on Monday morning", "after the meeting", "early in spring", "two weeks later", "at the end of the year",
    "on the way home", "before noon", "last winter", "in the following days", "during the long break", "that same evening",
    "a month ago", "at first light", "after a short pause", "on the third attempt", "in the meantime", "once the rain had stopped",
    "around ten o'clock", "in the first week", "late in the afternoon", "on a cold Tuesday", "shortly before closing time",
    "during the holidays", "after some hesitation", "the next day", "in the course of the summer", "at the last moment",
    "for the second year running", "as soon as the doors opened", "not long ago", "in the middle of the night", "by the weekend",
];

pub(crate) const PLACES: &[&str] = &[
    "in the town hall", "at the station", "behind the workshop", "by the river", "in the back office", "across the street",
    "on the second floor", "near the harbour", "in the school yard", "at the front desk", "in the next village", "under the bridge",
    "in the waiting room", "at the edge of the field", "outside the market", "in the reading room", "on the platform",
    "next to the bakery", "in a small hotel", "at the old mill", "in the garden", "along the coast road", "in the main hall",
    "at the back of the shop", "on the roof", "in the museum", "at the crossroads", "inside the warehouse",
    "in the hospital", "on the far side of the lake",
];

pub(crate) const MANNERS: &[&str] = &[
    "with great care", "without any help", "for the third time", "as the law required", "in plain words", "against all advice",
    "with a steady hand", "in a single afternoon", "for no clear reason", "at a fair price", "without a word", "in good faith",
    "with some relief", "more than once", "from beginning to end", "under pressure", "with a smile", "in their own time",
    "as well as anyone could", "to everyone's surprise", "before the others arrived", "while the others waited",
    "with the help of a friend", "as if nothing had happened", "in spite of the noise", "at their own expense",
    "without asking anyone", "by the light of a lamp", "with little hope", "in exactly the right order", "for a good cause",
    "out of habit", "with only minor changes", "on behalf of the group", "until late in the evening", "for a small fee",
];

pub(crate) const ADJECTIVES: &[&str] = &[
    "harder than it looked", "simpler than expected", "worth the effort", "the real problem", "less urgent than the rest",
    "better in practice than on paper", "a question of money", "easy to explain", "impossible to ignore", "a matter of taste",
    "more expensive than planned", "useful in the end", "quite ordinary", "the best part of the week", "a lucky accident",
    "good enough for now", "difficult to measure", "a lesson for everyone", "slower than before", "a fair solution",
    "surprisingly popular", "out of date", "too small to matter", "the turning point", "an open secret", "a fine example",
];

pub(crate) const GERUNDS: &[&str] = &[
    "keeping the records in order", "finding the right people", "saying so in time", "listening to both sides",
    "getting the details right", "waiting for better weather", "asking the simple questions", "paying the bills on time",
    "telling the truth about it", "working at a steady pace", "knowing when to stop", "sharing the work fairly",
    "looking after the smaller things", "making a clear decision", "learning from the last attempt", "leaving enough room",
    "staying within the budget", "treating everyone alike", "checking the numbers twice", "giving people a choice",
    "thinking a few years ahead", "using what was already there", "protecting the weakest", "admitting the mistake",
];

pub(crate) const SAYINGS: &[&str] = &[
    "said that", "explained that", "wrote that", "admitted that", "insisted that", "remembered that", "claimed that",
    "pointed out that", "confirmed that", "had heard that", "was told that", "believed that", "noted that", "agreed that",
];

pub(crate) const WISHES: &[&str] = &[
    "wanted to", "decided to", "hoped to", "refused to", "was asked to", "agreed to", "promised to", "managed to", "offered to",
    "had to", "tried to", "planned to", "chose to", "forgot to", "was able to", "learned to",
];

pub(crate) const LINKS: &[&str] = &[
    "however", "even so", "meanwhile", "in the end", "for that reason", "at the same time", "as a result", "all the same",
    "in other words", "on the whole", "after all", "for example", "more importantly", "in short", "of course", "in fact",
];

pub(crate) const DURATIONS: &[&str] = &[
    "a whole day", "almost an hour", "three weeks", "most of the summer", "two long evenings", "less than a minute",
    "several attempts", "the better part of a year", "ten minutes", "a few days", "half the morning", "another month",
];

pub(crate) const CROWDS: &[&str] = &[
    "three empty chairs", "a dozen people", "two closed doors", "a few old photographs", "some unopened boxes", "many questions",
    "several good reasons", "four bicycles", "no spare parts", "only two candidates", "hundreds of letters", "more visitors than usual",
    "two kinds of tickets", "long queues", "a great many opinions", "no easy answers",
];

/// Single words, for tags, keys and one-word answers.
pub(crate) const NOUNS: &[&str] = &[
    "garden", "letter", "bridge", "market", "winter", "signal", "harbour", "journey", "balance", "window", "mirror", "lantern",
    "pattern", "shelter", "ticket", "village", "compass", "library", "supply", "measure", "promise", "quality", "service",
    "season", "support", "feature", "network", "record", "budget", "comfort", "delivery", "schedule",
];

pub(crate) const QUALITIES: &[&str] = &[
    "quiet", "northern", "early", "simple", "careful", "bright", "hidden", "steady", "plain", "golden", "patient", "narrow",
    "honest", "distant", "gentle", "broken", "open", "final", "modern", "reliable", "compact", "familiar", "sudden", "common",
];

pub(crate) const FIRST_NAMES: &[&str] = &[
    "Amara", "Ben", "Clara", "Dmitri", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kavya", "Leo", "Mina", "Noah",
    "Olga", "Pablo", "Quinn", "Rosa", "Samir", "Tessa", "Umar", "Vera", "Wei", "Yara",
];

pub(crate) const LAST_NAMES: &[&str] = &[
    "Adeyemi", "Berger", "Costa", "Duval", "Eriksen", "Fischer", "Garcia", "Hughes", "Ivanov", "Jansen", "Kumar", "Lindgren",
    "Moreau", "Nakamura", "Okafor", "Petrov", "Quist", "Rossi", "Santos", "Tanaka", "Ueda", "Vogel", "Walsh", "Zhang",
];

pub(crate) const CITIES: &[&str] = &[
    "Lisbon", "Oslo", "Nairobi", "Kyoto", "Leeds", "Porto", "Ghent", "Quito", "Perth", "Cork", "Bergen", "Tunis", "Graz",
    "Lyon", "Halifax", "Pune",
];

pub(crate) const COUNTRIES: &[&str] = &[
    "Portugal", "Norway", "Kenya", "Japan", "Canada", "Belgium", "Ecuador", "Australia", "Ireland", "Tunisia", "Austria",
    "France", "India", "Chile",
];

pub(crate) const COLOURS: &[&str] =
    &["blue", "green", "red", "white", "black", "yellow", "grey", "brown", "orange", "violet"];

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

pub(crate) const AS_AN_AI: &[&str] = &[
    "As an AI language model, I do not have personal experiences or opinions.",
    "As an AI language model, I cannot make real-world decisions, but I can offer some general thoughts.",
    "As an AI language model, I have no access to current events, so please take this with care.",
    "As an AI language model, I can only describe this in general terms.",
];
