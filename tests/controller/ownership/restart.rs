//! What happened while the controller was down, on a real API server.

use crate::world::{World, allowed, hosts, ips};
use egress_domain::api::BOOK_ANNOTATION;
use egress_testbed::dns::{RecordType, Script};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// What is done to a policy or its objects while nobody looks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tampering {
    StatusPoisoned,
    Widened,
    Opened,
    Ungoverned,
    Emptied,
    DestinationRemoved,
    BookRemoved,
    BookGarbage,
    BookPoisoned,
    BookRemovedAndWidened,
    /// By a year: everything was seen in what is now the future.
    ClockSetBack,
}

impl Tampering {
    const ALL: [Self; 11] = [
        Self::StatusPoisoned,
        Self::Widened,
        Self::Opened,
        Self::Ungoverned,
        Self::Emptied,
        Self::DestinationRemoved,
        Self::BookRemoved,
        Self::BookGarbage,
        Self::BookPoisoned,
        Self::BookRemovedAndWidened,
        Self::ClockSetBack,
    ];

    /// What the addresses in the object are from is not known, so they go once DNS has answered.
    fn loses_the_book(self) -> bool {
        matches!(self, Self::BookRemoved | Self::BookGarbage | Self::BookRemovedAndWidened)
    }

    async fn perform(self, world: &World, namespace: &str) {
        let edit = async |patch| {
            world.hand_edit(namespace, "egress-web", "tamper", patch).await;
        };
        let object = world.network_policy(namespace, "web").await;
        let mut spec = serde_json::to_value(object.spec.as_ref().unwrap()).unwrap();
        let rules = spec["egress"].as_array_mut().unwrap();
        let blocks = rules.iter_mut().find(|rule| rule["to"][0]["ipBlock"].is_object()).unwrap();
        blocks["to"].as_array_mut().unwrap().push(json!({"ipBlock": {"cidr": "203.0.113.66/32"}}));
        let book = object.annotations()[BOOK_ANNOTATION].clone();
        match self {
            Self::StatusPoisoned => poison_status(world, namespace).await,
            Self::Widened => edit(json!({"spec": spec})).await,
            Self::Opened => edit(json!({"spec": {"egress": [{}]}})).await,
            Self::Ungoverned => edit(json!({"spec": {"egress": null, "policyTypes": ["Ingress"]}})).await,
            Self::Emptied => edit(json!({"spec": {"egress": null}})).await,
            Self::DestinationRemoved => {
                world.replace_spec(namespace, "web", hosts(&[&format!("a.{namespace}.example")])).await;
            }
            Self::BookRemoved => edit(json!({"metadata": {"annotations": {BOOK_ANNOTATION: null}}})).await,
            Self::BookGarbage => edit(json!({"metadata": {"annotations": {BOOK_ANNOTATION: "\u{0}{]"}}})).await,
            Self::BookPoisoned => {
                let mut book: Value = serde_json::from_str(&book).unwrap();
                book["hosts"][format!("a.{namespace}.example")]["203.0.113.66"] = json!(99_999_999);
                book["hosts"]["other.example"] = json!({"203.0.113.67": 99_999_999});
                edit(json!({"metadata": {"annotations": {BOOK_ANNOTATION: book.to_string()}}})).await;
            }
            Self::ClockSetBack => {
                let mut book: Value = serde_json::from_str(&book).unwrap();
                let hosts = book["hosts"].as_object_mut().unwrap();
                for minutes in hosts.values_mut().filter_map(Value::as_object_mut).flat_map(|host| host.values_mut()) {
                    *minutes = json!(minutes.as_u64().unwrap() + 365 * 24 * 60);
                }
                edit(json!({"metadata": {"annotations": {BOOK_ANNOTATION: book.to_string()}}})).await;
            }
            Self::BookRemovedAndWidened => {
                edit(json!({"metadata": {"annotations": {BOOK_ANNOTATION: null}}, "spec": spec})).await;
            }
        }
    }
}

async fn poison_status(world: &World, namespace: &str) {
    let host = format!("a.{namespace}.example");
    let status = json!({"observedGeneration": 99, "allowedAddressCount": 7, "conditions": [], "hosts": [
        {"hostname": host, "addressCount": 2, "addresses": ["203.0.113.66", "0.0.0.0"], "reason": "lies"}]});
    let patch = Patch::Merge(json!({"status": status}));
    world.policies(namespace).patch_status("web", &PatchParams::default(), &patch).await.unwrap();
}

struct Case {
    tampering: Tampering,
    dns_down: bool,
    namespace: String,
}

impl Case {
    /// Answers from before the restart that the spec still names.
    fn known(&self) -> &'static [&'static str] {
        match self.tampering {
            Tampering::DestinationRemoved => &["192.0.2.1", "192.0.2.2"],
            // Of the book only what the stored spec allows is believed: DNS alone brings it back.
            Tampering::Emptied => &[],
            _ => &["192.0.2.1", "192.0.2.2", "192.0.2.9"],
        }
    }

    fn names(&self) -> [String; 2] {
        ["a", "b"].map(|host| format!("{host}.{}.example", self.namespace))
    }

    fn break_dns(&self, world: &World) {
        for name in self.names() {
            world.dns.set(&name, RecordType::A, Script::ServFail);
            world.dns.set(&name, RecordType::AAAA, Script::ServFail);
        }
    }

    /// An address more than before, without one of those before; where the book is lost the same as before.
    fn repair_dns(&self, world: &World) {
        let [a, b] = self.names();
        let answer: &[&str] =
            if self.tampering.loses_the_book() { &["192.0.2.1", "192.0.2.2"] } else { &["192.0.2.1", "192.0.2.3"] };
        world.dns.set_host(&a, &ips(answer), 60);
        world.dns.set_host(&b, &ips(&["192.0.2.9"]), 60);
    }

    fn final_addresses(&self) -> Vec<&'static str> {
        if self.tampering == Tampering::Emptied {
            return vec!["192.0.2.1", "192.0.2.3", "192.0.2.9"];
        }
        let fresh = (!self.tampering.loses_the_book()).then_some("192.0.2.3");
        self.known().iter().copied().chain(fresh).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_happens_while_the_controller_is_down_widens_or_narrows_with_dns_up_or_down() {
    let mut world = World::new().await;
    let mut cases = Vec::new();
    for tampering in Tampering::ALL {
        for dns_down in [false, true] {
            let namespace = world.namespace("app").await;
            let case = Case { tampering, dns_down, namespace };
            let [a, b] = case.names();
            world.dns.set_host(&a, &ips(&["192.0.2.1", "192.0.2.2"]), 60);
            world.dns.set_host(&b, &ips(&["192.0.2.9"]), 60);
            world.create_policy(&case.namespace, "web", hosts(&[&a, &b])).await;
            cases.push(case);
        }
    }
    for case in &cases {
        world.condition(&case.namespace, "web", "Ready", "True", "Ready").await;
        world.allows(&case.namespace, "web", &["192.0.2.1", "192.0.2.2", "192.0.2.9"]).await;
    }
    world.kill_controller();
    for case in &cases {
        case.tampering.perform(&world, &case.namespace).await;
        if case.dns_down { case.break_dns(&world) } else { case.repair_dns(&world) }
    }
    // From here on, every write is the controller's.
    let recorder = world.record().await;
    world.start_controller().await;

    for case in cases.iter().filter(|case| case.dns_down) {
        let (namespace, tampering) = (&case.namespace, case.tampering);
        world.condition(namespace, "web", "Resolved", "False", "NoneResolved").await;
        if tampering.loses_the_book() {
            let revisions = recorder.revisions(namespace, "egress-web").await;
            assert!(
                revisions.is_empty(),
                "{tampering:?}: nothing is known better, and nothing is written: {revisions:?}"
            );
        } else {
            world.allows(namespace, "web", case.known()).await;
        }
        case.repair_dns(&world);
    }
    for case in &cases {
        let (namespace, tampering) = (&case.namespace, case.tampering);
        println!("{tampering:?}, DNS down {}", case.dns_down);
        let wanted = case.final_addresses();
        world.allows(namespace, "web", &wanted).await;
        world.condition(namespace, "web", "Ready", "True", "Ready").await;
        if tampering.loses_the_book() {
            world.event(namespace, "web", "BookLost").await;
        }
        let revisions = recorder.revisions(namespace, "egress-web").await;
        // One to put it right, one for the new answer; where DNS alone brings the hosts back, one for each.
        let most = if tampering == Tampering::Emptied { 3 } else { 2 };
        assert!((1..=most).contains(&revisions.len()), "{tampering:?}: {} writes", revisions.len());
        for revision in revisions {
            let found = allowed(&revision);
            let never = found.iter().find(|address| !wanted.contains(&address.as_str()));
            assert_eq!(never, None, "{tampering:?} widened: {found:?}");
            let lost = case.known().iter().find(|address| !found.contains(**address));
            assert_eq!(lost, None, "{tampering:?} narrowed: {found:?}");
            assert!(
                !revision.spec.unwrap().egress.unwrap().iter().any(|rule| rule.to.as_ref().is_none_or(Vec::is_empty))
            );
        }
        let deny = world.is_there(namespace, "default-deny-egress").await;
        assert_eq!(deny.metadata.generation, Some(1), "the default deny is left as it is");
    }
}
