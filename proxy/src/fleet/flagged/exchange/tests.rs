use super::*;
use crate::admission::abuse::Asked;
use penstock_config::clock::{Clock, Stepped};
use penstock_config::policy::Policy;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// 2026-01-01T00:00:00Z, microseconds.
const BEGAN: i64 = 1_767_225_600_000_000;
const CLIENT: &str = "192.0.2.7";

fn who() -> Who {
    CLIENT.parse().unwrap()
}

/// An instance whose wall clock differs from the true one.
struct Instance {
    admission: Admission,
    exchange: Exchange,
    policy: Abuse,
    clock: Arc<Stepped>,
    /// Microseconds.
    skew: i64,
    /// Offences found here.
    found: usize,
}

impl Instance {
    fn new(clock: &Arc<Stepped>, skew: i64) -> Self {
        Self {
            admission: Admission::new(clock.now(), None),
            exchange: Exchange::default(),
            policy: Policy::default().limits.abuse,
            clock: clock.clone(),
            skew,
            found: 0,
        }
    }

    fn unix(&self, jitter: i64) -> i64 {
        self.clock.unix_micros() + self.skew + jitter
    }

    /// A request; `true`: refused.
    fn ask(&mut self, query: &str) -> bool {
        let asked = Asked::Query(query);
        let penalty = self.admission.look(&self.policy, who(), asked, self.clock.now());
        self.found += usize::from(penalty.as_ref().is_some_and(|penalty| penalty.found.is_some()));
        penalty.is_some()
    }

    /// Asks until it is refused.
    fn offend(&mut self, query: &str) {
        assert!((0..21).any(|_| self.ask(query)));
    }

    fn row(&self, jitter: i64) -> Option<Flagged> {
        let rows = self.admission.flagged(&self.policy, self.clock.now(), self.unix(jitter));
        rows.into_iter().find(|row| row.client == who())
    }

    fn pardon(&self) {
        self.admission.pardon(who());
        let pardon = Pardon { client: who(), pardoned_micros: self.unix(0) };
        self.admission.forgive(&[pardon], self.clock.now(), self.unix(0));
    }

    /// `true`: the board was changed.
    fn exchange(&mut self, board: &mut HashMap<String, String>, jitter: i64) -> bool {
        let (now, unix) = (self.clock.now(), self.unix(jitter));
        let rows = Rows::parsed(board);
        let changes = self.exchange.with(&self.admission, &self.policy, &rows, now, unix);
        for field in &changes.remove {
            board.remove(field);
        }
        let changed = !changes.is_empty();
        board.extend(changes.put);
        changed
    }
}

fn fleet(skews: &[i64]) -> (Arc<Stepped>, Vec<Instance>, HashMap<String, String>) {
    let clock = Stepped::at(BEGAN);
    let instances = skews.iter().map(|skew| Instance::new(&clock, *skew)).collect();
    (clock, instances, HashMap::new())
}

fn settle(instances: &mut [Instance], board: &mut HashMap<String, String>) -> usize {
    let mut writes = 0;
    for _ in 0..4 {
        for instance in &mut *instances {
            writes += usize::from(instance.exchange(board, 0));
        }
    }
    writes
}

#[test]
fn a_second_offence_is_found_beside_the_board() {
    let (clock, mut fleet, mut board) = fleet(&[0, 0]);
    fleet[0].offend("lamp");
    settle(&mut fleet, &mut board);
    assert!(fleet[1].ask("lamp"));
    clock.step(Duration::from_secs(61));
    // One request a second, and a look after each.
    for n in 0..20 {
        assert!(!fleet[0].ask("lamp"), "{n}");
        clock.step(Duration::from_secs(1));
        settle(&mut fleet, &mut board);
    }
    assert!(fleet[0].ask("lamp"));
    settle(&mut fleet, &mut board);
    assert_eq!(fleet[1].row(0).map(|row| (row.offences, row.refused > 0)), Some((2, true)));
}

#[test]
fn what_is_news_forgets_counts_once() {
    let (_, mut fleet, mut board) = fleet(&[0, 0]);
    fleet[0].offend("lamp");
    for _ in 0..20 {
        assert!(!fleet[1].ask("mug"));
    }
    settle(&mut fleet, &mut board);
    // For the offence nobody pays twice; afterwards everything counts.
    for n in 0..20 {
        assert!(!fleet[1].ask("mug"), "{n}");
        settle(&mut fleet, &mut board);
    }
    assert!(fleet[1].ask("mug"));
}

#[test]
fn instances_with_other_policies_come_to_rest() {
    let (clock, mut fleet, mut board) = fleet(&[0, 0]);
    fleet[1].policy.penalty.longest = Duration::from_secs(60);
    fleet[1].policy.penalty.forget_after = Duration::from_secs(60);
    fleet[0].offend("lamp");
    fleet[0].offend("mug");
    let end = fleet[0].row(0).unwrap().penalty_until_micros;
    assert_eq!(settle(&mut fleet, &mut board), 1);
    // It keeps the client out no longer than its own policy says, and tells the others' end.
    assert_eq!(fleet[1].row(0).unwrap().penalty_until_micros, end);
    clock.step(Duration::from_secs(61));
    assert!(fleet[0].ask("chair"));
    assert!(!fleet[1].ask("chair"));
    let mut writes = 0;
    for _ in 0..100 {
        clock.step(Duration::from_secs(10));
        writes += settle(&mut fleet, &mut board);
    }
    assert!(writes <= 1, "{writes}");
    assert!(board.is_empty(), "the shorter memory removes it, and it stays away: {board:?}");
    assert_eq!(fleet[0].row(0).unwrap().penalty_until_micros, end);
}

#[test]
fn a_board_that_lost_everything_is_told_again() {
    let (clock, mut fleet, mut board) = fleet(&[0, 0]);
    fleet[0].offend("lamp");
    fleet[0].pardon();
    clock.step(Duration::from_secs(10));
    fleet[1].offend("lamp");
    settle(&mut fleet, &mut board);
    let before = board.clone();
    assert_eq!(before.len(), 2);
    board.clear();
    settle(&mut fleet, &mut board);
    let keys = |board: &HashMap<String, String>| -> std::collections::BTreeSet<String> {
        board.keys().cloned().collect()
    };
    assert_eq!(keys(&board), keys(&before));
    assert_eq!(fleet[0].row(0).map(|row| row.offences), Some(1));
}

#[test]
fn pardons_win_ties_and_small_skews() {
    let check = |skew_micros: i64, refused: bool| {
        let (_, mut fleet, mut board) = fleet(&[0, skew_micros]);
        fleet[1].offend("lamp");
        fleet[0].pardon();
        settle(&mut fleet, &mut board);
        assert_eq!(fleet[1].ask("lamp"), refused, "{skew_micros}");
        assert_eq!(fleet[0].row(0).is_some(), refused, "{skew_micros}");
        assert_eq!(settle(&mut fleet, &mut board), 0, "{skew_micros}");
    };
    check(0, false);
    check(-5_000_000, false);
    check(2_000_000, false);
    check(2_000_001, true);
}

#[test]
fn asking_on_undoes_no_pardon() {
    let (clock, mut fleet, mut board) = fleet(&[0, 0]);
    fleet[1].offend("lamp");
    settle(&mut fleet, &mut board);
    clock.step(Duration::from_secs(10));
    fleet[0].pardon();
    // The other one has not heard of it and refuses on.
    clock.step(Duration::from_secs(5));
    assert!(fleet[1].ask("lamp"));
    let Some((_, late)) = fleet.split_first_mut() else { unreachable!() };
    late[0].exchange(&mut board, 0);
    settle(&mut fleet, &mut board);
    assert!(fleet.iter_mut().all(|instance| !instance.ask("lamp")));
    // A new offence is a first one, and everybody hears of it.
    fleet[1].offend("lamp");
    settle(&mut fleet, &mut board);
    assert_eq!(fleet[0].row(0).map(|row| row.offences), Some(1));
}

#[test]
fn rows_are_told_from_pardons_and_from_nonsense() {
    let (_, mut fleet, mut board) = fleet(&[0]);
    fleet[0].offend("lamp");
    settle(&mut fleet, &mut board);
    let pardon = Row::Pardoned(Pardon { client: who(), pardoned_micros: BEGAN });
    board.extend([pardon.entry()]);
    let fields: std::collections::BTreeSet<_> = board.keys().map(String::as_str).collect();
    assert_eq!(fields, [CLIENT, "pardon:192.0.2.7"].into());
    board.insert("192.0.2.8".into(), board[CLIENT].clone());
    board.insert("192.0.2.9".into(), "{".into());
    let rows = Rows::parsed(&board);
    assert_eq!((rows.flagged.len(), rows.pardons.len()), (1, 1));
    assert_eq!(rows.clone().into_rows().into_iter().collect::<Rows>(), rows);
}

/// What happens in a simulated half second.
#[derive(Debug, Clone)]
struct Moment {
    /// Of each instance: how far the distance between its clocks is misread, and whether it looks.
    looks: [(i64, bool); 3],
    /// The instance a request goes to.
    asked: usize,
}

fn moments() -> impl Strategy<Value = Vec<Moment>> {
    let look = (-3..=3_i64, prop::bool::weighted(0.4));
    let moment = ([look.clone(), look.clone(), look], 0..3_usize)
        .prop_map(|(looks, asked)| Moment { looks, asked });
    prop::collection::vec(moment, 240..480)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// One offence, minutes of looks by clocks that tremble, and a pardon.
    #[test]
    fn an_end_stays_where_it_was_and_a_pardon_reaches_all(
        skews in prop::array::uniform3(-900_000..900_000_i64),
        moments in moments(),
        pardoned_by in 0..3_usize,
    ) {
        let (clock, mut fleet, mut board) = fleet(&skews);
        fleet[0].offend("lamp");
        fleet[0].offend("mug");
        let end = fleet[0].row(0).unwrap().penalty_until_micros;
        let (mut writes, half) = (0, moments.len() / 2);
        for (n, moment) in moments.iter().enumerate() {
            clock.step(Duration::from_millis(500));
            if n == half {
                prop_assert_eq!(writes, 1);
                fleet[pardoned_by].pardon();
            }
            for (instance, (jitter, looks)) in fleet.iter_mut().zip(moment.looks) {
                if looks {
                    writes += usize::from(instance.exchange(&mut board, jitter));
                }
                if let Some(row) = instance.row(jitter) {
                    prop_assert_eq!(row.penalty_until_micros, end);
                    prop_assert_eq!(row.offences, 2);
                }
            }
            // It keeps asking, but seldom enough to be found out no more.
            if n % 8 == 0 {
                fleet[moment.asked].ask("lamp");
            }
            // 100 looks later the last one has heard of it.
            if n > half + 100 {
                prop_assert!(fleet.iter().all(|instance| instance.row(0).is_none()));
            }
        }
        // The offence, and the pardon in place of it.
        prop_assert_eq!(writes, 2);
    }

    /// Offences anywhere: in the end all know the same, and nothing is written for nothing.
    #[test]
    fn fleets_come_to_rest(moments in moments(), offends in prop::collection::vec(0..240_usize, 0..6)) {
        let (clock, mut fleet, mut board) = fleet(&[0, 700_000, -700_000]);
        let mut writes = 0;
        for (n, moment) in moments.iter().enumerate() {
            clock.step(Duration::from_millis(500));
            for (query, _) in offends.iter().enumerate().filter(|(_, at)| **at == n) {
                let instance = &mut fleet[moment.asked];
                for _ in 0..21 {
                    instance.ask(&format!("lamp {query}"));
                }
            }
            for (instance, (jitter, looks)) in fleet.iter_mut().zip(moment.looks) {
                if looks {
                    writes += usize::from(instance.exchange(&mut board, jitter));
                }
            }
        }
        writes += settle(&mut fleet, &mut board);
        let found: usize = fleet.iter().map(|instance| instance.found).sum();
        // Each offence, and what three merge to when they find one out at once.
        prop_assert!(writes <= 3 * found, "{} writes for {} offences", writes, found);
        let stamps: Vec<_> = fleet.iter().map(|one| one.row(0).map(|row| row.stamp())).collect();
        prop_assert!(stamps.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", stamps);
        prop_assert_eq!(settle(&mut fleet, &mut board), 0);
    }
}
