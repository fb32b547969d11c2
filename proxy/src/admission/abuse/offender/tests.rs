use super::*;
use penstock_config::policy::Policy;

#[test]
fn penalties_grow_to_the_longest() {
    let mut penalties = Policy::default().limits.abuse.penalty;
    let check = |penalties: &Penalties, expected: &[u64]| {
        let seconds: Vec<_> =
            (1..).map(|n| penalty_of(n, penalties).as_secs()).take(expected.len()).collect();
        assert_eq!(seconds, expected);
    };
    check(&penalties, &[60, 240, 960, 3_600, 3_600]);
    penalties.factor = 1;
    check(&penalties, &[60, 60, 60]);
    penalties.factor = 100;
    assert_eq!(penalty_of(u32::MAX, &penalties), penalties.longest);
}

#[test]
fn scopes_cover_what_was_abused() {
    let check = |scope: Scope, asked: Asked<'_>, expected: bool| {
        assert_eq!(scope.covers(asked), expected, "{scope:?} {asked:?}");
    };
    for asked in [Asked::Query("lamp"), Asked::Product("7"), Asked::Other] {
        check(Scope::Client, asked, true);
        check(Scope::Products, asked, matches!(asked, Asked::Product(_)));
        check(Scope::of_query("lamp"), asked, asked == Asked::Query("lamp"));
        check(Scope::of_query("lamps"), asked, false);
    }
}
