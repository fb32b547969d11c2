//! Sets as they are published: which files a folder has, and what in them is a product or an event.
//!
//! | layout | products | events |
//! |---|---|---|
//! | [`olist`](Layout::Olist) | named by their translated category and the end of their id; the median of what was paid is the price | a purchase for each product of an order that was not cancelled, by the customer behind it |
//! | [`retailrocket`](Layout::RetailRocket) | each item that is described or was visited, named by its number; the latest category and price (property 790) | as they are |
//! | [`movielens`](Layout::MovieLens) | films, the year split off their title; genres are categories | ratings |
//!
//! The rows go the way of all rows: what a product or an event must be, the budget for bad ones and
//! the rules for types of events are the same. What of one file is needed for the rows of another
//! is kept in memory; that grows with products and orders and never with views or properties.

mod folder;
mod movielens;
mod olist;
mod retailrocket;

use super::error::ImportError;
use super::event::EventRules;
use super::source::{Opened, Source};
use folder::Folder;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A published set's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Olist's Brazilian e-commerce set.
    Olist,
    /// RetailRocket's recommender system set.
    RetailRocket,
    /// GroupLens' MovieLens, in any of its sizes.
    MovieLens,
}

impl Layout {
    const ALL: [Self; 3] = [Self::Olist, Self::RetailRocket, Self::MovieLens];

    /// As it is named in commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Olist => "olist",
            Self::RetailRocket => "retailrocket",
            Self::MovieLens => "movielens",
        }
    }

    /// The layout whose files, by their names, a folder has. None with a file of products in it:
    /// that is a catalogue already.
    pub fn of_folder(folder: &Path) -> Option<Self> {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        if names.map(|entry| entry.file_name()).any(|name| {
            name.to_str().and_then(|name| name.split_once('.')).is_some_and(|n| n.0 == "products")
        }) {
            return None;
        }
        Self::ALL.into_iter().find(|layout| layout.is_in(&Folder::new(*layout, folder)))
    }

    fn is_in(self, folder: &Folder<'_>) -> bool {
        match self {
            Self::Olist => folder.has(&[olist::PRODUCTS]),
            Self::RetailRocket => folder.has(&[retailrocket::EVENTS, retailrocket::PROPERTIES[0]]),
            Self::MovieLens => movielens::release(folder).is_some(),
        }
    }

    /// Adds what the layout's types of events mean.
    pub fn rules(self, rules: &mut EventRules) {
        if self == Self::Olist {
            olist::rules(rules);
        }
    }

    /// Opens the files of a folder, in the order in which they are to be read, and reads as much as
    /// their headers.
    pub(super) fn open(self, folder: &Path) -> Result<Vec<(Source, Opened)>, ImportError> {
        let folder = Folder::new(self, folder);
        match self {
            Self::Olist => olist::open(&folder),
            Self::RetailRocket => retailrocket::open(&folder),
            Self::MovieLens => movielens::open(&folder),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let name = name.to_lowercase();
        Self::ALL.into_iter().find(|layout| layout.name() == name).ok_or_else(|| {
            format!("`{name}` is no layout; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}
