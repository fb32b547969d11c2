use super::*;
use Mode::{Full, KeywordOnly, Popular, SemanticOnly, Stale, Unpersonalised};
use penstock_config::policy::Policy;
use proptest::prelude::*;

const CALM: Situation = Situation {
    utilisation: 0.0,
    usual: [None; 4],
    left: Duration::from_millis(180),
    history_is_shut: false,
    stale: false,
    cap: Full,
};

fn policy() -> LoadPolicy {
    Policy::default().resilience.load
}

fn answer(mode: Mode, why: Why) -> Verdict {
    Verdict::Answer { mode, why }
}

#[test]
fn the_rungs_by_their_causes() {
    let check = |situation: Situation, expected: Verdict| {
        assert_eq!(decide(&policy(), &situation), expected, "{situation:?}");
    };
    let used = |utilisation: f64| Situation { utilisation, ..CALM };
    check(CALM, answer(Full, Why::Nothing));
    check(used(0.69), answer(Full, Why::Nothing));
    check(used(0.7), answer(KeywordOnly, Why::Load));
    check(used(0.85), answer(Unpersonalised, Why::Load));
    check(used(0.95), answer(Unpersonalised, Why::Load));
    check(used(1.0), answer(Popular, Why::Load));
    check(used(3.9), answer(Popular, Why::Load));
    check(used(4.0), Verdict::Refuse);
    // An older answer is better than what is popular, and than nothing.
    let old = |utilisation: f64| Situation { stale: true, ..used(utilisation) };
    check(old(0.85), answer(Unpersonalised, Why::Load));
    check(old(0.9), answer(Stale, Why::Load));
    check(old(1.5), answer(Stale, Why::Load));
    check(old(9.0), answer(Stale, Why::Load));
    // Over a limit that degrades: from a cache, or what is popular.
    check(Situation { cap: Stale, ..CALM }, answer(Popular, Why::Limit));
    check(Situation { cap: Stale, ..old(0.0) }, answer(Stale, Why::Limit));
    check(Situation { cap: Stale, ..used(5.0) }, Verdict::Refuse);
    check(Situation { cap: KeywordOnly, ..used(0.75) }, answer(KeywordOnly, Why::Limit));
    check(Situation { cap: SemanticOnly, ..CALM }, answer(Unpersonalised, Why::Limit));
    // The store.
    check(Situation { history_is_shut: true, ..CALM }, answer(Unpersonalised, Why::Store));
    check(Situation { history_is_shut: true, ..used(1.0) }, answer(Popular, Why::Load));
}

#[test]
fn what_would_be_late_is_not_begun() {
    let millis = |numbers: [u64; 4]| numbers.map(|n| (n > 0).then(|| Duration::from_millis(n)));
    let check = |usual: [u64; 4], left: u64, expected: Verdict| {
        let left = Duration::from_millis(left);
        let situation = Situation { usual: millis(usual), left, ..CALM };
        assert_eq!(decide(&policy(), &situation), expected, "{situation:?}");
    };
    check([50, 20, 10, 1], 180, answer(Full, Why::Nothing));
    check([50, 20, 10, 1], 30, answer(KeywordOnly, Why::Time));
    check([50, 20, 10, 1], 15, answer(Unpersonalised, Why::Time));
    check([50, 20, 10, 1], 5, answer(Popular, Why::Time));
    check([50, 20, 10, 1], 0, answer(Popular, Why::Time));
    // Nothing is known of it: it is tried.
    check([0, 20, 10, 1], 5, answer(Full, Why::Nothing));
    check([50, 0, 10, 1], 5, answer(KeywordOnly, Why::Time));
}

#[test]
fn switched_off_it_leaves_the_load_alone() {
    let off = LoadPolicy { enabled: false, ..policy() };
    let swamped = Situation { utilisation: 100.0, ..CALM };
    assert_eq!(decide(&off, &swamped), answer(Full, Why::Nothing));
    let capped = Situation { cap: Stale, ..swamped };
    assert_eq!(decide(&off, &capped), answer(Popular, Why::Limit));
}

#[test]
fn a_share_of_nothing_begins_at_once() {
    let emergency =
        LoadPolicy { keyword_only: 0.0, unpersonalised: 0.0, stale: 0.0, popular: 0.0, ..policy() };
    assert_eq!(decide(&emergency, &CALM), answer(Popular, Why::Load));
}

/// How far down; a refusal is the end.
fn depth(verdict: Verdict) -> usize {
    match verdict {
        Verdict::Answer { mode, .. } => mode as usize,
        Verdict::Refuse => Mode::Popular as usize + 1,
    }
}

prop_compose! {
    fn situations()(
        utilisation in 0.0..6.0_f64,
        usual in prop::array::uniform4(prop::option::of((0..300_u64).prop_map(Duration::from_millis))),
        left in (0..200_u64).prop_map(Duration::from_millis),
        history_is_shut: bool,
        stale: bool,
        cap in prop::sample::select(vec![Full, KeywordOnly, SemanticOnly, Unpersonalised, Stale, Popular]),
    ) -> Situation {
        Situation { utilisation, usual, left, history_is_shut, stale, cap }
    }
}

proptest! {
    #[test]
    fn more_load_never_gives_a_better_rung(situation in situations(), more in 0.0..6.0_f64) {
        let loaded = Situation { utilisation: situation.utilisation + more, ..situation };
        let (before, after) = (decide(&policy(), &situation), decide(&policy(), &loaded));
        prop_assert!(depth(before) <= depth(after), "{before:?} {after:?}");
    }

    #[test]
    fn less_time_never_gives_a_better_rung(situation in situations(), less in 0..200_u64) {
        let left = situation.left.saturating_sub(Duration::from_millis(less));
        let hurried = Situation { left, ..situation };
        let (before, after) = (decide(&policy(), &situation), decide(&policy(), &hurried));
        prop_assert!(depth(before) <= depth(after), "{before:?} {after:?}");
    }

    #[test]
    fn a_cap_is_respected_and_every_rung_can_be_climbed(situation in situations()) {
        match decide(&policy(), &situation) {
            Verdict::Answer { mode, why } => {
                // An older answer stands for what is popular, too.
                let cap = if situation.stale { situation.cap.min(Stale) } else { situation.cap };
                prop_assert!(mode >= cap, "{mode:?}");
                prop_assert!(mode != Stale || situation.stale);
                prop_assert!(mode != SemanticOnly);
                prop_assert_eq!(mode == Full, why == Why::Nothing);
            }
            Verdict::Refuse => prop_assert!(!situation.stale),
        }
    }
}
