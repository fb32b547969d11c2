//! The one row that counts what is in the spool. Read and written in the transaction of what it counts, so it is
//! right for every process that looks.

use super::row::COST;
use rusqlite::Connection;

/// The counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    /// Grows with every transaction: of two, the one with the higher number is newer.
    pub change: i64,
    /// The number of the oldest row that waits; one more than `last` when none does.
    pub first: i64,
    /// The number of the latest row there ever was.
    pub last: i64,
    /// When the oldest was received, microseconds since 1970.
    pub oldest: i64,
    pub waiting: i64,
    pub bytes: i64,
    /// Rows set aside, and what they cost.
    pub aside: i64,
    pub aside_bytes: i64,
    /// Ever.
    pub shipped: i64,
    pub refused: i64,
    pub damaged: i64,
    /// Files that were moved away damaged.
    pub files: i64,
}

impl Totals {
    pub fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare_cached(
            "SELECT change, first, last, oldest, waiting, bytes, aside, aside_bytes, shipped, refused, damaged, files \
             FROM totals",
        )?;
        statement.query_row([], |row| {
            Ok(Self {
                change: row.get(0)?,
                first: row.get(1)?,
                last: row.get(2)?,
                oldest: row.get(3)?,
                waiting: row.get(4)?,
                bytes: row.get(5)?,
                aside: row.get(6)?,
                aside_bytes: row.get(7)?,
                shipped: row.get(8)?,
                refused: row.get(9)?,
                damaged: row.get(10)?,
                files: row.get(11)?,
            })
        })
    }

    /// From the values of a row that was read without SQLite; `None`: they make no sense.
    pub fn from_values(values: &[i64; 12]) -> Option<Self> {
        let &[change, first, last, oldest, waiting, bytes, aside, aside_bytes, .., files] = values;
        let [.., shipped, refused, damaged, _] = *values;
        let sane = values.iter().all(|value| (0..1 << 60).contains(value))
            && waiting + aside <= last
            && first <= last + 1;
        sane.then_some(Self {
            change,
            first,
            last,
            oldest,
            waiting,
            bytes,
            aside,
            aside_bytes,
            shipped,
            refused,
            damaged,
            files,
        })
    }

    /// Writes them as the next change.
    pub fn save(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.change += 1;
        let mut statement = connection.prepare_cached(
            "UPDATE totals SET change = ?1, first = ?2, last = ?3, oldest = ?4, waiting = ?5, bytes = ?6, aside = ?7, \
             aside_bytes = ?8, shipped = ?9, refused = ?10, damaged = ?11, files = ?12",
        )?;
        statement.execute((
            self.change,
            self.first,
            self.last,
            self.oldest,
            self.waiting,
            self.bytes,
            self.aside,
            self.aside_bytes,
            self.shipped,
            self.refused,
            self.damaged,
            self.files,
        ))?;
        Ok(())
    }

    /// All that takes room.
    pub fn held(&self) -> u64 {
        self.bytes.saturating_add(self.aside_bytes).max(0).unsigned_abs()
    }

    /// Finds the oldest row that waits.
    pub fn find_first(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection
            .prepare_cached("SELECT seq, received_micros FROM waiting ORDER BY seq LIMIT 1")?;
        let mut rows = statement.query([])?;
        match rows.next()? {
            Some(row) => (self.first, self.oldest) = (row.get(0)?, row.get(1)?),
            None => {
                // Small errors of rows that were damaged end here.
                (self.first, self.oldest) = (self.last + 1, 0);
                (self.waiting, self.bytes) = (0, 0);
            }
        }
        Ok(())
    }

    /// Counts the rows themselves: after a crash the counts need not be believed.
    pub fn recount(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let sums = |table: &str| {
            connection.query_row(
                &format!(
                    "SELECT count(*), coalesce(sum({COST}), 0), coalesce(max(seq), 0) FROM {table}"
                ),
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)),
            )
        };
        let (latest, latest_aside);
        (self.waiting, self.bytes, latest) = sums("waiting")?;
        (self.aside, self.aside_bytes, latest_aside) = sums("aside")?;
        self.last = self.last.max(latest).max(latest_aside);
        self.find_first(connection)
    }
}
