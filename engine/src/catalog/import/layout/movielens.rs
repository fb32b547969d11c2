//! MovieLens: `movies.csv` and `ratings.csv` (the newer releases), `movies.dat` and `ratings.dat`
//! (1M, 10M), `u.item` and `u.data` (100K).
//!
//! Ratings are ratings: one of at least `--min-value` is a view. Tags and links are not read.
#![expect(
    clippy::unnecessary_wraps,
    reason = "rows of other files can be bad; all are converted alike"
)]

use super::folder::Folder;
use crate::catalog::import::columns::{Entity, event_field, product_field};
use crate::catalog::import::error::ImportError;
use crate::catalog::import::read::{Record, Step};
use crate::catalog::import::source::{Opened, Source};

/// How a release writes its two files.
#[derive(Debug, Clone, Copy)]
pub(super) enum Release {
    Csv,
    Dat,
    Hundred,
}

impl Release {
    const ALL: [Self; 3] = [Self::Csv, Self::Dat, Self::Hundred];

    fn files(self) -> [&'static str; 2] {
        match self {
            Self::Csv => ["movies.csv", "ratings.csv"],
            Self::Dat => ["movies.dat", "ratings.dat"],
            Self::Hundred => ["u.item", "u.data"],
        }
    }
}

/// Genres of `u.item`, in the order of its columns of 0 and 1 (`u.genre`). The first is "unknown".
const GENRES: [&str; 19] = [
    "",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];

/// What films without a genre have in its place.
const NO_GENRES: &str = "(no genres listed)";

/// Columns of `u.item` before the genres: id, title, date, date of the video, a link.
const BEFORE_GENRES: usize = 5;

pub(super) fn release(folder: &Folder<'_>) -> Option<Release> {
    Release::ALL.into_iter().find(|release| folder.has(&release.files()))
}

pub(super) fn open(folder: &Folder<'_>) -> Result<Vec<(Source, Opened)>, ImportError> {
    let Some(release) = release(folder) else {
        return Err(folder.lacks(
            "movies.csv with ratings.csv, movies.dat with ratings.dat, or u.item with u.data",
        ));
    };
    let [movies, ratings] = release.files();
    let (products, events) = (Entity::Products, Entity::Events);
    Ok(match release {
        Release::Csv => vec![
            folder.csv(movies, products, &["movieid", "title", "genres"], movie)?,
            folder.csv(ratings, events, &["userid", "movieid", "rating", "timestamp"], rating)?,
        ],
        Release::Dat => vec![
            folder.delimited(movies, products, ("::", 3), movie)?,
            folder.delimited(ratings, events, ("::", 4), rating)?,
        ],
        Release::Hundred => {
            let fields = BEFORE_GENRES + GENRES.len();
            vec![
                folder.delimited(movies, products, ("|", fields), item)?,
                folder.delimited(ratings, events, ("\t", 4), rating)?,
            ]
        }
    })
}

/// id, title, genres
fn movie(row: &mut Record, product: &mut Record) -> Result<Step, String> {
    let genres = row.get(2).trim();
    product.set(product_field::CATEGORY, if genres == NO_GENRES { "" } else { genres });
    titled(row, product)
}

/// id, title, …, a column a genre
fn item(row: &mut Record, product: &mut Record) -> Result<Step, String> {
    let has = |(at, _): &(usize, &&str)| row.get(BEFORE_GENRES + at) == "1";
    let genres: Vec<&str> = GENRES.iter().enumerate().filter(has).map(|(_, name)| *name).collect();
    product.set(product_field::CATEGORY, &genres.join("|"));
    titled(row, product)
}

fn titled(row: &Record, product: &mut Record) -> Result<Step, String> {
    product.set(product_field::ID, row.get(0));
    let (name, year) = name_and_year(row.get(1));
    product.set(product_field::NAME, name);
    if let Some(year) = year {
        product.set(product_field::CREATED_AT, &format!("{year}-01-01"));
    }
    Ok(Step::Row)
}

/// user, film, rating, time
fn rating(row: &mut Record, event: &mut Record) -> Result<Step, String> {
    event.set(event_field::EVENT_TYPE, "rating");
    let fields =
        [event_field::USER_ID, event_field::PRODUCT_ID, event_field::VALUE, event_field::TIMESTAMP];
    for (at, field) in fields.into_iter().enumerate() {
        event.set(field, row.get(at));
    }
    Ok(Step::Row)
}

/// `Toy Story (1995)` is `Toy Story` of 1995.
fn name_and_year(title: &str) -> (&str, Option<&str>) {
    let title = title.trim();
    let split = title.strip_suffix(')').and_then(|rest| rest.rsplit_once('('));
    match split {
        Some((name, year))
            if year.len() == 4
                && year.bytes().all(|b| b.is_ascii_digit())
                && !name.trim().is_empty() =>
        {
            (name.trim_end(), Some(year))
        }
        _ => (title, None),
    }
}

#[cfg(test)]
mod tests {
    use super::name_and_year;

    #[test]
    fn years_of_titles() {
        for (title, expected) in [
            ("Toy Story (1995)", ("Toy Story", Some("1995"))),
            (
                " City of Lost Children, The (Cité) (1995) ",
                ("City of Lost Children, The (Cité)", Some("1995")),
            ),
            ("Babylon 5", ("Babylon 5", None)),
            ("Fawlty Towers (1975-1979)", ("Fawlty Towers (1975-1979)", None)),
            ("(1968)", ("(1968)", None)),
            ("Odd (abcd)", ("Odd (abcd)", None)),
            ("", ("", None)),
        ] {
            assert_eq!(name_and_year(title), expected, "{title}");
        }
    }
}
