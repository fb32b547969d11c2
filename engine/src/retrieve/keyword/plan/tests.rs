use super::{Concept, Lexicon, Place, plan};
use std::collections::BTreeMap;

/// Words and pairs of a small catalogue with their frequencies, and what is near what.
struct Known {
    words: BTreeMap<&'static str, u64>,
    pairs: BTreeMap<&'static str, u64>,
    near: BTreeMap<&'static str, &'static str>,
}

impl Lexicon for Known {
    fn frequency(&self, term: &str, place: Place) -> u64 {
        let of = if place == Place::Words { &self.words } else { &self.pairs };
        of.get(term).copied().unwrap_or(0)
    }

    fn near(&self, word: &str, limit: usize) -> Vec<String> {
        let near = self.near.get(word).into_iter();
        near.flat_map(|words| words.split(' ')).take(limit).map(str::to_owned).collect()
    }
}

fn known() -> Known {
    Known {
        words: [
            ("lamp", 9),
            ("drill", 9),
            ("18v", 5),
            ("18", 7),
            ("lp123", 1),
            ("wifi", 2),
            ("dishwasher", 3),
            ("dish", 4),
            ("washer", 6),
            ("brown", 5),
            ("switch", 5),
            ("fire", 1),
            ("pit", 1),
            ("2", 9),
            ("4", 9),
            ("2x4", 3),
            ("~trim", 2),
        ]
        .into(),
        pairs: [("firepit", 3), ("drilllamp", 1)].into(),
        near: [("lanp", "lamp lane"), ("drlll", "drill")].into(),
    }
}

/// `word word:weight (confirming)`; `+` before what is looked for among the pairs.
fn shown(concepts: &[Concept], lexicon: &Known) -> String {
    let mut out = Vec::new();
    for concept in concepts {
        let known = concept.spellings.iter().filter(|s| lexicon.frequency(&s.term, s.place) > 0);
        let spellings: Vec<String> = known
            .map(|s| {
                let sign = if s.place == Place::Pairs { "+" } else { "" };
                format!("{sign}{}:{:.2}", s.term, s.weight)
            })
            .collect();
        let text = if spellings.is_empty() { "?".into() } else { spellings.join("|") };
        out.push(if concept.required { text } else { format!("({text})") });
    }
    out.join(" ")
}

#[test]
fn queries_become_concepts() {
    let lexicon = known();
    for (query, expected) in [
        ("", ""),
        ("the of 😀", ""),
        ("lamps", "lamp:1.00"),
        ("lamp lamp lamp", "lamp:1.00"),
        ("qwx", "?"),
        ("18 volt drill", "18v:1.00|18:0.20 drill:1.00"),
        ("LP-123", "lp123:1.00"),
        ("wi-fi", "wifi:0.50 wifi:0.50"),
        ("dish washer", "dish:1.00|dishwasher:0.50 washer:1.00|dishwasher:0.50"),
        ("firepit", "+firepit:0.50"),
        ("fire pit", "fire:1.00 pit:1.00 (+firepit:1.00)"),
        ("2x4", "2:1.00 4:1.00 (2x4:1.00)"),
        ("lanp", "lamp:0.70"),
        ("drlll lamp", "drill:0.70 lamp:1.00"),
        ("brownswitch", "brown:1.00 switch:1.00"),
        ("trimming", "~trim:0.30"),
    ] {
        assert_eq!(shown(&plan(query, 32, &lexicon), &lexicon), expected, "{query:?}");
    }
}

#[test]
fn only_the_first_terms_count() {
    let lexicon = known();
    let concepts = plan("the lamp and the drill and 18", 2, &lexicon);
    assert_eq!(shown(&concepts, &lexicon), "lamp:1.00 drill:1.00");
    assert_eq!(plan("lamp", 0, &lexicon), []);
}
