//! What the sources have told so far, and whether that is all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use egress_domain::cluster::facts::{ClusterFacts, Fact};
use tokio::time::Instant;

use super::source::{Change, Source};

/// The facts of every source.
#[derive(Debug)]
pub(super) struct Kept {
    sources: BTreeMap<Source, Told>,
    nameservers: Vec<IpAddr>,
}

/// What one source has told.
#[derive(Debug, Default)]
struct Told {
    /// By object; objects that say nothing are not kept.
    facts: BTreeMap<String, Fact>,
    /// The list under way, which replaces `facts` when it is complete.
    arriving: Option<BTreeMap<String, Fact>>,
    /// Whether a list has ever been complete.
    listed: bool,
    unavailable_since: Option<Instant>,
}

/// What a change means for who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The facts are as before.
    None,
    /// The facts are others now.
    Changed,
    /// The source has become unavailable, for this reason.
    Unavailable(String),
    /// The source is available again.
    Available,
}

impl Kept {
    pub(super) fn new(nameservers: Vec<IpAddr>) -> Self {
        Self { sources: BTreeMap::new(), nameservers }
    }

    /// Expects a source to tell; false when it was expected already.
    pub(super) fn expect(&mut self, source: Source) -> bool {
        let is_new = !self.sources.contains_key(&source);
        self.sources.entry(source).or_default();
        is_new
    }

    /// Takes what a source tells. What it told before stays while it is unavailable or lost.
    pub(super) fn take(&mut self, source: Source, change: Change, now: Instant) -> Effect {
        let told = self.sources.entry(source).or_default();
        match change {
            Change::Listing => told.arriving = Some(BTreeMap::new()),
            Change::Listed => {
                let before = told.arriving.take().map(|arrived| std::mem::replace(&mut told.facts, arrived));
                let first = !std::mem::replace(&mut told.listed, true);
                let was_unavailable = told.unavailable_since.take().is_some();
                return match before {
                    _ if was_unavailable => Effect::Available,
                    Some(before) if before == told.facts && !first => Effect::None,
                    _ => Effect::Changed,
                };
            }
            Change::Says(name, fact) => return told.say(name, fact),
            Change::Gone(name) => return told.say(name, None),
            Change::Unreadable(name) => {
                if let (Some(arriving), Some(fact)) = (&mut told.arriving, told.facts.get(&name)) {
                    arriving.insert(name, fact.clone());
                }
            }
            Change::Unavailable(reason) => {
                if told.unavailable_since.is_none() {
                    told.unavailable_since = Some(now);
                    return Effect::Unavailable(reason);
                }
            }
            Change::Lost(_) => {}
        }
        Effect::None
    }

    /// When all is known that will be: every source has listed, or has been unavailable for `grace`. None while one may
    /// still tell.
    pub(super) fn complete_at(&self, grace: Duration, now: Instant) -> Option<Instant> {
        let times = self.sources.values().map(|told| match told.unavailable_since {
            _ if told.listed => Some(now),
            since => since.map(|since| since + grace),
        });
        times.collect::<Option<Vec<Instant>>>()?.into_iter().max()
    }

    /// Everything told so far.
    pub(super) fn facts(&self) -> ClusterFacts {
        let mut facts = ClusterFacts { nameservers: self.nameservers.clone(), ..ClusterFacts::default() };
        let told = self.sources.values().flat_map(|told| told.facts.values());
        told.for_each(|fact| facts.add(fact.clone()));
        facts
    }
}

impl Told {
    fn say(&mut self, name: String, fact: Option<Fact>) -> Effect {
        let facts = self.arriving.as_mut().unwrap_or(&mut self.facts);
        let is_same = facts.get(&name) == fact.as_ref();
        match fact {
            Some(fact) => facts.insert(name, fact),
            None => facts.remove(&name),
        };
        match self.arriving {
            // A list under way counts when it is complete.
            Some(_) => Effect::None,
            // A watch that was refused goes on where it was, without a list.
            None if self.unavailable_since.take().is_some() => Effect::Available,
            None if is_same => Effect::None,
            None => Effect::Changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);
    const SOURCE: Source = Source::ServiceCidrs;

    fn says(name: &str, cidr: &str) -> Change {
        Change::Says(name.to_owned(), Some(Fact::ServiceCidr(vec![cidr.parse().unwrap()])))
    }

    fn kept() -> Kept {
        let mut kept = Kept::new(Vec::new());
        assert!(kept.expect(SOURCE));
        kept
    }

    #[track_caller]
    fn check(kept: &mut Kept, change: Change, effect: Effect, cidrs: &[&str]) {
        assert_eq!(kept.take(SOURCE, change.clone(), Instant::now()), effect, "{change:?}");
        let known: Vec<String> = kept.facts().service_cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(known, cidrs, "{change:?}");
    }

    #[test]
    fn a_list_counts_when_it_is_complete() {
        let mut kept = kept();
        check(&mut kept, Change::Listing, Effect::None, &[]);
        check(&mut kept, says("a", "10.96.0.0/16"), Effect::None, &[]);
        assert_eq!(kept.complete_at(GRACE, Instant::now()), None);
        check(&mut kept, Change::Listed, Effect::Changed, &["10.96.0.0/16"]);
        assert!(kept.complete_at(GRACE, Instant::now()).is_some());
    }

    #[test]
    fn an_empty_first_list_is_a_change_too() {
        let mut kept = kept();
        check(&mut kept, Change::Listing, Effect::None, &[]);
        check(&mut kept, Change::Listed, Effect::Changed, &[]);
    }

    #[test]
    fn later_lists_replace_and_equal_ones_change_nothing() {
        let mut kept = kept();
        for effect in [Effect::Changed, Effect::None] {
            check(
                &mut kept,
                Change::Listing,
                Effect::None,
                if effect == Effect::None { &["10.96.0.0/16"] } else { &[] },
            );
            kept.take(SOURCE, says("a", "10.96.0.0/16"), Instant::now());
            check(&mut kept, Change::Listed, effect, &["10.96.0.0/16"]);
        }
        check(&mut kept, Change::Listing, Effect::None, &["10.96.0.0/16"]);
        check(&mut kept, Change::Listed, Effect::Changed, &[]);
    }

    #[test]
    fn single_objects_come_change_and_go() {
        let mut kept = kept();
        check(&mut kept, says("a", "10.96.0.0/16"), Effect::Changed, &["10.96.0.0/16"]);
        check(&mut kept, says("a", "10.96.0.0/16"), Effect::None, &["10.96.0.0/16"]);
        check(&mut kept, says("a", "10.97.0.0/16"), Effect::Changed, &["10.97.0.0/16"]);
        check(&mut kept, Change::Gone("b".to_owned()), Effect::None, &["10.97.0.0/16"]);
        check(&mut kept, Change::Gone("a".to_owned()), Effect::Changed, &[]);
        check(&mut kept, Change::Says("c".to_owned(), None), Effect::None, &[]);
    }

    #[test]
    fn an_unreadable_object_still_says_what_it_said() {
        let mut kept = kept();
        check(&mut kept, says("a", "10.96.0.0/16"), Effect::Changed, &["10.96.0.0/16"]);
        check(&mut kept, Change::Unreadable("a".to_owned()), Effect::None, &["10.96.0.0/16"]);
        check(&mut kept, Change::Listing, Effect::None, &["10.96.0.0/16"]);
        check(&mut kept, Change::Unreadable("a".to_owned()), Effect::None, &["10.96.0.0/16"]);
        check(&mut kept, Change::Listed, Effect::Changed, &["10.96.0.0/16"]);
    }

    #[test]
    fn an_unavailable_source_counts_as_empty_after_the_grace_and_is_told_of_once() {
        let (mut kept, start) = (kept(), Instant::now());
        let forbidden = || Change::Unavailable("403".to_owned());
        check(&mut kept, Change::Listing, Effect::None, &[]);
        assert_eq!(kept.take(SOURCE, forbidden(), start), Effect::Unavailable("403".to_owned()));
        assert_eq!(kept.take(SOURCE, forbidden(), start + GRACE), Effect::None);
        assert_eq!(kept.complete_at(GRACE, start), Some(start + GRACE));
    }

    #[test]
    fn a_source_that_becomes_unavailable_keeps_what_it_told() {
        let mut kept = kept();
        check(&mut kept, Change::Listing, Effect::None, &[]);
        check(&mut kept, says("a", "10.96.0.0/16"), Effect::None, &[]);
        check(&mut kept, Change::Listed, Effect::Changed, &["10.96.0.0/16"]);
        let reason = "forbidden".to_owned();
        check(&mut kept, Change::Unavailable(reason.clone()), Effect::Unavailable(reason), &["10.96.0.0/16"]);
        check(&mut kept, Change::Listing, Effect::None, &["10.96.0.0/16"]);
        check(&mut kept, Change::Listed, Effect::Available, &[]);
    }

    #[test]
    fn a_refused_watch_is_available_again_with_its_next_event() {
        let mut kept = kept();
        check(&mut kept, says("a", "10.96.0.0/16"), Effect::Changed, &["10.96.0.0/16"]);
        let reason = "forbidden".to_owned();
        check(&mut kept, Change::Unavailable(reason.clone()), Effect::Unavailable(reason), &["10.96.0.0/16"]);
        check(&mut kept, Change::Gone("a".to_owned()), Effect::Available, &[]);
        check(&mut kept, Change::Gone("a".to_owned()), Effect::None, &[]);
    }

    #[test]
    fn a_lost_connection_is_waited_for() {
        let mut kept = kept();
        check(&mut kept, Change::Lost("reset".to_owned()), Effect::None, &[]);
        assert_eq!(kept.complete_at(GRACE, Instant::now()), None);
    }
}
