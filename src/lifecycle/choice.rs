//! Chooses the version of a model that is served, as a pure function of the versions in the source.
//!
//! A version is good when it is complete, loads, and passes its samples. A good version is eligible when
//!
//! - no older version is eligible, or
//! - it has the signature of the newest older eligible version, or
//! - it declares `new_signature` itself.
//!
//! The newest eligible version is served. The version that a worker served before has no influence, so all
//! workers on one source agree, and deleting the newest version rolls back to the one before it.
//!
//! All eligible versions between two declarations have one signature. A version is therefore compared with
//! one other only, its **base**: the newest older good version that declares `new_signature`, or, if there is
//! none, the oldest good one. No other version is opened.

/// The findings about one version.
#[derive(Debug, Clone)]
pub(crate) struct Facts<S> {
    /// True when it declares `new_signature`, or the reason why its declaration cannot be read now.
    pub(crate) new_signature: Result<bool, String>,
    pub(crate) verdict: Verdict<S>,
}

impl<S> Facts<S> {
    /// The reason why the version is not good, or not known to be.
    pub(crate) fn reason(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Bad(reason) | Verdict::Unclear(reason) => Some(reason),
            Verdict::Unknown | Verdict::Good(_) => self.new_signature.as_ref().err().map(String::as_str),
        }
    }
}

/// The judgement of one version: its signature, or the reason why it has none.
#[derive(Debug, Clone, Default)]
pub(crate) enum Verdict<S> {
    #[default]
    Unknown,
    Good(S),
    Bad(String),
    /// A version that cannot be judged now, and why.
    Unclear(String),
}

/// The next step. Versions are positions in the list, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Find out whether this version is good, and its signature. It is not served before others are judged.
    Open(usize),
    /// Load this version: it is served if it is good and has the signature of its base.
    Load(usize),
    Serve(usize),
    /// No version is eligible, as far as can be judged now.
    Nothing,
}

/// The version that another is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The version is not compared with another.
    None,
    At(usize),
    /// The base depends on this version, which is not judged yet.
    Open(usize),
    /// The base depends on this version, which cannot be judged now.
    Unclear(usize),
}

/// The base of the version at `at`.
pub(crate) fn base<S>(newest_first: &[Facts<S>], at: usize) -> Base {
    let judged = |at: usize| match &newest_first[at].verdict {
        Verdict::Good(_) => Some(Base::At(at)),
        Verdict::Unknown => Some(Base::Open(at)),
        Verdict::Unclear(_) => Some(Base::Unclear(at)),
        Verdict::Bad(_) => None,
    };
    match newest_first[at].new_signature {
        Err(_) => return Base::Unclear(at),
        Ok(true) => return Base::None,
        Ok(false) => {}
    }
    let older = at + 1..newest_first.len();
    let declared = older.clone().find_map(|older| {
        match (&newest_first[older].verdict, &newest_first[older].new_signature) {
            (Verdict::Bad(_), _) | (_, Ok(false)) => None,
            (_, Ok(true)) => judged(older),
            (_, Err(_)) => Some(Base::Unclear(older)),
        }
    });
    declared.or_else(|| older.rev().find_map(judged)).unwrap_or(Base::None)
}

/// The next step towards the version that is served. Called again after each step, with the new findings.
pub(crate) fn step<S: PartialEq>(newest_first: &[Facts<S>]) -> Step {
    for (at, facts) in newest_first.iter().enumerate() {
        if let Verdict::Bad(_) | Verdict::Unclear(_) = facts.verdict {
            continue;
        }
        let base = match base(newest_first, at) {
            Base::None => None,
            Base::At(base) => Some(&newest_first[base].verdict),
            Base::Open(version) => return Step::Open(version),
            Base::Unclear(_) => continue,
        };
        match (&facts.verdict, base) {
            (Verdict::Good(own), Some(Verdict::Good(base))) if own != base => {}
            (Verdict::Good(_), _) => return Step::Serve(at),
            _ => return Step::Load(at),
        }
    }
    Step::Nothing
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A version in the source: its signature unless it is bad, and true if it declares a new one.
    type Version = (Option<u8>, bool);

    /// The served version by the rule in the module's head, without its economy.
    fn served(newest_first: &[Version]) -> Option<usize> {
        let (&(signature, is_new), older) = newest_first.split_first()?;
        let without = served(older).map(|at| at + 1);
        match (signature, without) {
            (None, _) => without,
            (Some(_), None) => Some(0),
            (Some(own), Some(at)) if is_new || newest_first[at].0 == Some(own) => Some(0),
            (Some(_), Some(_)) => without,
        }
    }

    fn unknown(versions: &[Version]) -> Vec<Facts<u8>> {
        let facts = |(_, new): &Version| Facts { new_signature: Ok(*new), verdict: Verdict::Unknown };
        versions.iter().map(facts).collect()
    }

    fn verdict((signature, _): Version) -> Verdict<u8> {
        signature.map_or(Verdict::Bad(String::new()), Verdict::Good)
    }

    /// Takes steps until the end. Returns the served version and those that were opened.
    fn follow(versions: &[Version], facts: &mut [Facts<u8>]) -> (Option<usize>, Vec<usize>) {
        let mut judged = Vec::new();
        loop {
            match step(facts) {
                Step::Open(at) | Step::Load(at) => {
                    facts[at].verdict = verdict(versions[at]);
                    judged.push(at);
                }
                Step::Serve(at) => return (Some(at), judged),
                Step::Nothing => return (None, judged),
            }
        }
    }

    fn versions() -> impl Strategy<Value = Vec<Version>> {
        prop::collection::vec((prop::option::weighted(0.7, 0u8..3), prop::bool::weighted(0.3)), 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_steps_end_at_the_version_of_the_rule(versions in versions()) {
            let (found, judged) = follow(&versions, &mut unknown(&versions));
            prop_assert_eq!(found, served(&versions));
            let mut once = judged.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), judged.len(), "a version was judged twice: {:?}", judged);
        }

        /// A running worker keeps earlier findings; a restarted one has none.
        #[test]
        fn earlier_findings_change_nothing(versions in versions(), known: u8) {
            let mut facts = unknown(&versions);
            for (at, facts) in facts.iter_mut().enumerate() {
                if known & (1 << at) != 0 {
                    facts.verdict = verdict(versions[at]);
                }
            }
            prop_assert_eq!(follow(&versions, &mut facts).0, served(&versions));
        }

        /// Uploads in any order, deletions and repeated uploads: only the final content of the source counts.
        #[test]
        fn a_worker_that_saw_every_change_agrees_with_a_new_one(
            versions in versions(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..20),
        ) {
            prop_assume!(!versions.is_empty());
            let mut there = vec![false; versions.len()];
            let mut known = unknown(&versions);
            for (which, put) in changes {
                there[which.index(versions.len())] = put;
                let listed: Vec<usize> = (0..versions.len()).filter(|at| there[*at]).collect();
                let of = |at: &usize| versions[*at];
                let source: Vec<Version> = listed.iter().map(of).collect();
                let mut facts: Vec<_> = listed.iter().map(|at| known[*at].clone()).collect();
                let (running, _) = follow(&source, &mut facts);
                for (at, facts) in listed.iter().zip(facts) {
                    known[*at] = facts;
                }
                prop_assert_eq!(running, follow(&source, &mut unknown(&source)).0);
            }
        }

        /// A version that cannot be judged now never makes a version eligible that otherwise is not.
        #[test]
        fn unclear_versions_make_none_eligible(versions in versions(), unclear: u8, unread: u8) {
            let mut facts = unknown(&versions);
            for (at, facts) in facts.iter_mut().enumerate() {
                if unclear & (1 << at) != 0 {
                    facts.verdict = Verdict::Unclear(String::new());
                }
                if unread & (1 << at) != 0 {
                    facts.new_signature = Err(String::new());
                }
            }
            if let (Some(at), _) = follow(&versions, &mut facts) {
                prop_assert_eq!(served(&versions[at..]), Some(0));
            }
        }
    }

    #[test]
    fn at_most_one_older_version_is_opened() {
        let opened = |versions: &[Version]| follow(versions, &mut unknown(versions)).1;
        let (a, b, new_b, bad) = ((Some(0), false), (Some(1), false), (Some(1), true), (None, false));
        assert_eq!(opened(&[a]), [0]);
        assert_eq!(opened(&[a; 50]), [49, 0]);
        assert_eq!(opened(&[new_b, a, a]), [0]);
        assert_eq!(opened(&[b, b, new_b, a, a]), [2, 0]);
        assert_eq!(opened(&[b, a, a]), [2, 0, 1]);
        assert_eq!(opened(&[a, bad]), [1, 0]);
    }

    #[test]
    fn a_refused_version_is_no_base_of_later_ones() {
        let (a, b, new_b) = ((Some(0), false), (Some(1), false), (Some(1), true));
        let version = |versions: &[Version]| follow(versions, &mut unknown(versions)).0;
        assert_eq!(version(&[b, a]), Some(1));
        assert_eq!(version(&[b, b, a]), Some(2), "the same mistake twice");
        assert_eq!(version(&[a, b, a]), Some(0), "the mistake corrected");
        assert_eq!(version(&[b, new_b, a]), Some(0));
        assert_eq!(version(&[a, new_b, a]), Some(1));
        assert_eq!(version(&[b]), Some(0), "the older one deleted");
    }
}
