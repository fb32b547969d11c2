//! The words the demo shop is made of, from `vocabulary.txt`.

/// A top category.
#[derive(Debug)]
pub(super) struct Department {
    pub(super) name: &'static str,
    /// The month in which it sells best, 1 to 12.
    pub(super) peak_month: u8,
    pub(super) brands: Vec<Brand>,
    pub(super) aisles: Vec<Aisle>,
}

/// A brand and where it stands: 1 budget, 2, 3 premium.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brand {
    pub(super) name: &'static str,
    pub(super) tier: u8,
}

/// A subcategory.
#[derive(Debug)]
pub(super) struct Aisle {
    pub(super) name: &'static str,
    pub(super) median_price: f64,
    /// Sigma of the price's logarithm.
    pub(super) spread: f64,
    pub(super) of: Vec<&'static str>,
    pub(super) is: Vec<&'static str>,
    pub(super) uses: Vec<&'static str>,
    pub(super) things: Vec<Thing>,
}

/// One kind of thing under all its names.
#[derive(Debug)]
pub(super) struct Thing {
    pub(super) names: Vec<&'static str>,
    pub(super) has: Vec<&'static str>,
    /// Its price as a multiple of the aisle's.
    pub(super) price: f64,
}

/// The whole vocabulary.
pub(super) fn departments() -> Vec<Department> {
    parse(include_str!("vocabulary.txt")).expect("the vocabulary is part of the program and tested")
}

/// Error: the number of the line that makes no sense.
pub(super) fn parse(text: &'static str) -> Result<Vec<Department>, usize> {
    let mut departments: Vec<Department> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let parsed = match line.trim().split_at_checked(1) {
            None | Some(("#", _)) => Some(()),
            Some(("=", rest)) => department(rest).map(|new| departments.push(new)),
            Some((">", rest)) => {
                aisle(rest).zip(departments.last_mut()).map(|(new, last)| last.aisles.push(new))
            }
            _ => thing(line)
                .zip(departments.last_mut().and_then(|d| d.aisles.last_mut()))
                .map(|(new, last)| last.things.push(new)),
        };
        parsed.ok_or(number + 1)?;
    }
    Ok(departments)
}

fn department(line: &'static str) -> Option<Department> {
    let [name, peak, brands] = parts(line, '|').try_into().ok()?;
    let brand = |text: &'static str| {
        let (name, tier) = text.rsplit_once(' ')?;
        let tier = tier.parse().ok().filter(|tier| (1..=3).contains(tier))?;
        Some(Brand { name, tier })
    };
    Some(Department {
        name,
        peak_month: peak.parse().ok().filter(|month| (1..=12).contains(month))?,
        brands: parts(brands, ',').into_iter().map(brand).collect::<Option<_>>()?,
        aisles: Vec::new(),
    })
}

fn aisle(line: &'static str) -> Option<Aisle> {
    let [name, price, of, is, uses] = parts(line, '|').try_into().ok()?;
    let (median, spread) = price.split_once(',')?;
    let list = |text: &'static str, label: &str| Some(parts(text.strip_prefix(label)?, ','));
    Some(Aisle {
        name,
        median_price: median.trim().parse().ok()?,
        spread: spread.trim().parse().ok()?,
        of: list(of, "of:")?,
        is: list(is, "is:")?,
        uses: list(uses, "for:")?,
        things: Vec::new(),
    })
}

fn thing(line: &'static str) -> Option<Thing> {
    let fields = parts(line, '|');
    let (names, has, price) = match fields[..] {
        [names, has] => (names, has, 1.0),
        [names, has, price] => (names, has, price.strip_prefix('x')?.parse().ok()?),
        _ => return None,
    };
    let thing = Thing { names: parts(names, ','), has: parts(has, ';'), price };
    (thing.has.len() >= 2).then_some(thing)
}

fn parts(text: &'static str, separator: char) -> Vec<&'static str> {
    let trimmed = text.split(separator).map(str::trim);
    trimmed.filter(|part| !part.is_empty()).collect()
}
