//! Text into pieces: words and numbers, and how each hangs on the one before it.

use crate::query::fold;
use std::fmt::Write;
use unicode_normalization::char::is_combining_mark;

/// Longest word kept, in bytes; the rest of a longer one is cut off (Tantivy refuses terms beyond
/// 64 kB, and nobody types more).
pub(super) const MAX_WORD: usize = 40;

/// What stands between a piece and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Glue {
    /// Nothing: `12v`, `lp123`.
    None,
    /// A hyphen: `LP-123`, `wi-fi`.
    Hyphen,
    /// A slash: `black/white`.
    Slash,
    /// A dot between letters or digits: `802.11g`.
    Dot,
    /// A blank, another sign, or the beginning.
    Space,
}

/// Whether a piece is letters or digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters, lower-case, without accents.
    Word,
    /// A number in its shortest spelling: `25,000` is `25000`, `1/2` is `0.5`.
    Number,
}

/// A word or a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub text: String,
    pub kind: Kind,
    pub glue: Glue,
}

/// Every piece of `text`, in order.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let folded = fold(text);
    let chars: Vec<char> = folded.chars().collect();
    let mut scan = Scan { chars: &chars, at: 0, glue: Glue::Space, out: Vec::new() };
    scan.run();
    mixed_numbers(scan.out)
}

struct Scan<'a> {
    chars: &'a [char],
    at: usize,
    glue: Glue,
    out: Vec<Piece>,
}

impl Scan<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or(' ')
    }

    fn run(&mut self) {
        while self.at < self.chars.len() {
            let c = self.peek(0);
            if c.is_ascii_digit() || (c == '.' && self.starts_decimal()) {
                self.number();
            } else if ideographic(c) {
                self.push(c.to_string(), Kind::Word);
                self.at += 1;
                self.glue = Glue::Space;
            } else if c.is_alphanumeric() {
                self.word();
            } else {
                self.sign(c);
            }
        }
    }

    fn starts_decimal(&self) -> bool {
        self.peek(1).is_ascii_digit()
            && (self.at == 0 || !self.chars[self.at - 1].is_alphanumeric())
    }

    fn push(&mut self, text: String, kind: Kind) {
        self.out.push(Piece { text, kind, glue: self.glue });
        self.glue = Glue::None;
    }

    fn sign(&mut self, c: char) {
        let after_number = self.glue == Glue::None
            && self.out.last().is_some_and(|piece| piece.kind == Kind::Number);
        match c {
            // Inches and feet: 17" and 8'. NFKC writes ″ as two primes.
            '"' | '”' | '“' if after_number => self.push("in".into(), Kind::Word),
            '\'' | '’' | '′' if after_number && !self.peek(1).is_alphabetic() => {
                if matches!(self.peek(1), '\'' | '’' | '′') {
                    self.at += 1;
                    self.push("in".into(), Kind::Word);
                } else {
                    self.push("ft".into(), Kind::Word);
                }
            }
            '%' if after_number => self.push("percent".into(), Kind::Word),
            _ => {
                let glue = match c {
                    '-' | '‐' | '‑' | '–' => Glue::Hyphen,
                    '/' => Glue::Slash,
                    '.' => Glue::Dot,
                    _ => Glue::Space,
                };
                // Two signs in a row separate.
                self.glue = if self.glue == Glue::None { glue } else { Glue::Space };
            }
        }
        self.at += 1;
    }

    fn word(&mut self) {
        let mut text = String::new();
        loop {
            let c = self.peek(0);
            // A mark belongs to the letter before it.
            let letter = c.is_alphanumeric() || is_combining_mark(c);
            if letter && !c.is_ascii_digit() && !ideographic(c) {
                if text.len() + c.len_utf8() <= MAX_WORD {
                    text.push(c);
                }
            } else if matches!(c, '\'' | '’') && self.peek(1).is_alphabetic() {
                // lowe's → lowe, don't → dont
                if self.peek(1) == 's' && !self.peek(2).is_alphanumeric() {
                    self.at += 2;
                    break;
                }
            } else {
                break;
            }
            self.at += 1;
        }
        self.push(text, Kind::Word);
    }

    fn digits(&mut self) -> String {
        let mut text = String::new();
        loop {
            let c = self.peek(0);
            let thousands = c == ','
                && !text.is_empty()
                && (1..=3).all(|i| self.peek(i).is_ascii_digit())
                && !self.peek(4).is_ascii_digit();
            if c.is_ascii_digit() {
                if text.len() < MAX_WORD / 2 {
                    text.push(c);
                }
            } else if !thousands {
                break;
            }
            self.at += 1;
        }
        text
    }

    fn number(&mut self) {
        let whole = self.digits();
        if self.peek(0) == '/' && self.peek(1).is_ascii_digit() {
            let back = self.at;
            self.at += 1;
            let below = self.digits();
            if let Some(value) = fraction(&whole, &below) {
                self.push(value, Kind::Number);
                return;
            }
            self.at = back;
        }
        let mut text = whole;
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            self.at += 1;
            let part = self.digits();
            let part = part.trim_end_matches('0');
            if text.is_empty() {
                text.push('0');
            }
            if !part.is_empty() {
                let _ = write!(text, ".{part}");
            }
        }
        self.push(text, Kind::Number);
    }
}

/// Scripts written without blanks: one piece per character.
fn ideographic(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3134f}')
}

/// `3/8` as `0.375`: only what a ruler or a wrench shows, so that `24/7` and `35/28` stay two numbers.
fn fraction(above: &str, below: &str) -> Option<String> {
    let above: u32 = above.parse().ok()?;
    let below: u32 = below.parse().ok()?;
    let sensible = matches!(below, 2 | 3 | 4 | 5 | 6 | 8 | 10 | 12 | 16 | 32 | 64);
    (sensible && above > 0 && above < below).then(|| decimal(f64::from(above) / f64::from(below)))
}

fn decimal(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1 1/2` and `1-1/2` are one number.
fn mixed_numbers(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if let Some(last) = out.last_mut()
            && last.kind == Kind::Number
            && piece.kind == Kind::Number
            && matches!(piece.glue, Glue::Hyphen | Glue::Space)
            && last.text.len() <= 3
            && !last.text.contains('.')
            && piece.text.starts_with("0.")
            && let (Ok(whole), Ok(part)) = (last.text.parse::<f64>(), piece.text.parse::<f64>())
        {
            last.text = decimal(whole + part);
            continue;
        }
        out.push(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn text_becomes_words_and_numbers() {
        for (input, expected) in [
            ("", ""),
            ("Wi-Fi", "wi-fi"),
            ("LP-123 lp123", "lp-123 lp^123"),
            ("3/4 in. x 8 ft.", "0.75 in x 8 ft"),
            ("1-1/2 in", "1.5 in"),
            ("1 1/2\"", "1.5^in"),
            ("1½ in", "1.5 in"),
            ("17″ 8'", "17^in 8^ft"),
            ("25,000 BTU", "25000 btu"),
            ("1,2,3", "1 2 3"),
            (".50 cal 8.0", "0.5 cal 8"),
            ("24/7", "24/7"),
            ("802.11g", "802.11^g"),
            ("Lowe's don't", "lowe dont"),
            ("black/white", "black/white"),
            ("2x4", "2^x^4"),
            ("ÉCRAN", "ecran"),
            ("日本語", "日 本 語"),
            ("हिन्दी किताब", "हिन्दी किताब"),
            ("😀 !!", ""),
        ] {
            let shown = pieces(input)
                .iter()
                .map(|piece| {
                    let glue = match piece.glue {
                        super::Glue::None => "^",
                        super::Glue::Hyphen => "-",
                        super::Glue::Slash => "/",
                        super::Glue::Dot => ".",
                        super::Glue::Space => " ",
                    };
                    format!("{glue}{}", piece.text)
                })
                .collect::<String>();
            assert_eq!(shown.trim_start(), expected, "{input:?}");
        }
    }
}
