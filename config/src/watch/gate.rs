//! Which contents of the folder are worth judging.
//!
//! Contents in force and contents refused are left alone, so that a bad file costs one log line
//! however often somebody touches it. A known file that is missing means its defaults; but a
//! missing file may also be one that is being replaced by deleting and writing again, or the
//! first of a folder that is being removed. So such a set is judged only after a while.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What tells two states of a folder apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) version: String,
    /// Known files that exist.
    pub(super) names: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The contents in force.
    InForce,
    /// Contents that were refused.
    Refused,
    /// Look again then.
    Wait(Instant),
    /// New contents.
    Judge,
}

#[derive(Debug)]
pub(super) struct Gate {
    vanish_grace: Duration,
    accepted: Sight,
    refused: Option<String>,
    vanishing: Option<(Sight, Instant)>,
}

impl Gate {
    pub(super) fn new(vanish_grace: Duration, accepted: Sight) -> Self {
        Self { vanish_grace, accepted, refused: None, vanishing: None }
    }

    pub(super) fn look(&mut self, sight: &Sight, now: Instant) -> Step {
        if sight.version == self.accepted.version {
            self.accepted.names.clone_from(&sight.names);
            self.vanishing = None;
            return Step::InForce;
        }
        if self.refused.as_ref() == Some(&sight.version) {
            return Step::Refused;
        }
        if sight.names.is_superset(&self.accepted.names) {
            return Step::Judge;
        }
        let since = match &self.vanishing {
            Some((same, since)) if same == sight => *since,
            _ => {
                self.vanishing = Some((sight.clone(), now));
                now
            }
        };
        let until = since + self.vanish_grace;
        if now < until { Step::Wait(until) } else { Step::Judge }
    }

    pub(super) fn accept(&mut self, sight: Sight) {
        self.accepted = sight;
        self.refused = None;
        self.vanishing = None;
    }

    pub(super) fn refuse(&mut self, version: String) {
        self.refused = Some(version);
        self.vanishing = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(version: &str, names: &[&str]) -> Sight {
        Sight {
            version: version.into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn contents_are_judged_once() {
        let now = crate::clock::now();
        let mut gate = Gate::new(Duration::from_secs(1), sight("a", &["r", "q"]));
        assert_eq!(gate.look(&sight("a", &["r", "q"]), now), Step::InForce);
        assert_eq!(gate.look(&sight("b", &["r", "q"]), now), Step::Judge);
        gate.refuse("b".into());
        assert_eq!(gate.look(&sight("b", &["r", "q"]), now), Step::Refused);
        assert_eq!(gate.look(&sight("a", &["r", "q"]), now), Step::InForce);
        assert_eq!(gate.look(&sight("b", &["r", "q"]), now), Step::Refused);
        assert_eq!(gate.look(&sight("c", &["r", "q", "s"]), now), Step::Judge);
        gate.accept(sight("c", &["r", "q", "s"]));
        assert_eq!(gate.look(&sight("b", &["r", "q", "s"]), now), Step::Judge);
    }

    #[test]
    fn a_missing_file_is_waited_for() {
        let start = crate::clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut gate = Gate::new(Duration::from_secs(1), sight("a", &["r", "q"]));
        assert_eq!(gate.look(&sight("b", &["q"]), at(0)), Step::Wait(at(1_000)));
        assert_eq!(gate.look(&sight("b", &["q"]), at(900)), Step::Wait(at(1_000)));
        // Something else is missing now: the wait starts again.
        assert_eq!(gate.look(&sight("c", &[]), at(950)), Step::Wait(at(1_950)));
        assert_eq!(gate.look(&sight("c", &[]), at(1_950)), Step::Judge);
        // It came back.
        assert_eq!(gate.look(&sight("d", &["r", "q"]), at(1_960)), Step::Judge);
        // Back to what is in force, then gone again: the wait starts again.
        assert_eq!(gate.look(&sight("a", &["r", "q"]), at(2_000)), Step::InForce);
        assert_eq!(gate.look(&sight("c", &[]), at(3_000)), Step::Wait(at(4_000)));
    }
}
