//! What may be stored as a spec, and what is understood of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parse_with(spec: &Value, settings: &Settings) -> ValidatedPolicy {
    let object = json!({
        "apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy", "spec": spec,
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z",
        },
    });
    ValidatedPolicy::parse(&serde_json::from_value(object).unwrap(), settings)
}

fn parse(spec: &Value) -> ValidatedPolicy {
    parse_with(spec, &Settings::default())
}

fn ports(set: &PortSet) -> String {
    let text = |range: &PortRange| match range.port == range.end {
        true => format!("{}/{}", range.protocol, range.port),
        false => format!("{}/{}-{}", range.protocol, range.port, range.end),
    };
    set.ranges().iter().map(text).collect::<Vec<_>>().join(" ")
}

/// One line per thing that is open, in the policy's order.
fn understood(policy: &ValidatedPolicy) -> Vec<String> {
    let hosts = policy.hosts.iter().map(|(host, set)| format!("{host} {}", ports(set)));
    let blocks = policy.blocks.iter().map(|(set, block)| {
        let holes: String = block.except.iter().map(|hole| format!(" less {hole}")).collect();
        format!("{}{holes} {}", block.net, ports(set))
    });
    let namespaces = policy.namespaces.iter().map(|peer| {
        let pods = peer.pod_selector.as_ref().map_or_else(String::new, |s| serde_json::to_string(s).unwrap());
        format!("pods of {}{pods} {}", peer.name, peer.ports.as_ref().map_or_else(|| "any port".to_owned(), ports))
    });
    hosts.chain(blocks).chain(namespaces).collect()
}

/// `problems` are the fields, each followed by a word of the message.
#[track_caller]
fn check(destinations: Value, expected: &[&str], problems: &[(&str, &str)]) {
    let policy = parse(&json!({"destinations": destinations}));
    assert_eq!(understood(&policy), expected);
    let fields: Vec<&str> = policy.problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, problems.iter().map(|(field, _)| *field).collect::<Vec<_>>());
    for (problem, (_, word)) in policy.problems.iter().zip(problems) {
        assert!(problem.message.contains(word), "{problem} does not say {word:?}");
    }
}

#[test]
fn the_python_operators_resource_is_understood_unchanged() {
    let policy = parse(&json!({
        "refreshIntervalSeconds": 60,
        "destinations": [{"hostname": "api.github.com"}, {"ip": "8.8.8.8"}],
        "namespaces": ["shared-services", "backup-tools"],
    }));
    let open = [
        "api.github.com TCP/443",
        "8.8.8.8/32 TCP/443",
        "pods of backup-tools any port",
        "pods of shared-services any port",
    ];
    assert_eq!(understood(&policy), open);
    assert_eq!((policy.refresh, policy.retention), (Duration::from_secs(60), Duration::from_secs(7 * 86_400)));
    assert_eq!((policy.mode, &policy.pod_selector), (Mode::Enforce, &LabelSelector::default()));
    assert_eq!((policy.key.to_string().as_str(), policy.uid.as_str(), policy.generation), ("n/p", "u", 3));
    assert_eq!((policy.created, policy.problems), (UnixTime(1_767_225_600), vec![]));
}

#[test]
fn an_empty_spec_opens_nothing_and_has_the_default_times() {
    let policy = parse(&json!({"destinations": null, "namespaces": null}));
    assert_eq!(understood(&policy), [""; 0]);
    assert_eq!((policy.refresh, policy.problems), (Duration::from_secs(600), vec![]));
}

#[test]
fn an_ip_literal_in_hostname_is_an_ip() {
    check(
        json!([{"hostname": "192.0.2.7"}, {"hostname": " 2001:DB8:0::1 "}]),
        &["192.0.2.7/32 TCP/443", "2001:db8::1/128 TCP/443"],
        &[],
    );
}

#[test]
fn hostname_wins_over_ip_also_when_it_is_no_name() {
    check(json!([{"hostname": "a.example", "ip": "192.0.2.1"}]), &["a.example TCP/443"], &[]);
    check(json!([{"hostname": "", "ip": "192.0.2.1"}]), &[], &[("spec.destinations[0].hostname", "empty")]);
}

#[test]
fn one_bad_entry_never_stops_the_rest_and_is_named_exactly() {
    let rest = ["ok.example TCP/443"];
    for (bad, field, word) in [
        (json!({}), "", "none"),
        (json!({"ports": [{"port": 80}]}), "", "none"),
        (json!({"ip": "192.0.2"}), ".ip", "192.0.2"),
        (json!({"ip": "192.0.2.0/24"}), ".ip", "IPv4 or IPv6"),
        (json!({"cidr": "192.0.2.1/33"}), ".cidr", "203.0.113.0/24"),
        (json!({"cidr": "192.0.2.1"}), ".cidr", "203.0.113.0/24"),
        (json!({"hostname": "*.example.com"}), ".hostname", "wildcards"),
        (json!({"hostname": "https://a.example"}), ".hostname", "characters"),
        (json!({"namespace": {"name": "Not_One"}}), ".namespace.name", "Not_One"),
        (json!({"namespace": {"name": ""}}), ".namespace.name", "namespace"),
        (json!({"hostname": "a.example", "ports": [{"port": 0}]}), ".ports[0]", "1..65535"),
    ] {
        let field = format!("spec.destinations[1]{field}");
        check(json!([{"hostname": "ok.example"}, bad]), &rest, &[(&field, word)]);
    }
}

#[test]
fn a_namespace_of_the_shorthand_that_is_none_is_named_too() {
    let policy = parse(&json!({"namespaces": ["fine", "-bad", "a.b", "x".repeat(64)]}));
    assert_eq!(understood(&policy), ["pods of fine any port"]);
    let fields: Vec<&str> = policy.problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["spec.namespaces[1]", "spec.namespaces[2]", "spec.namespaces[3]"]);
}

#[test]
fn a_bad_port_goes_and_the_good_ones_beside_it_stay() {
    let bad = |port| ((format!("spec.destinations[0].ports[{port}]")), "1..65535");
    let fields = [bad(1), bad(2), bad(3), bad(4)];
    let problems: Vec<(&str, &str)> = fields.iter().map(|(field, word)| (field.as_str(), *word)).collect();
    check(
        json!([{"hostname": "a.example", "ports": [
            {"port": 22}, {"port": 0}, {"port": 65536}, {"port": 80, "endPort": 79}, {"port": 80, "endPort": 65536},
        ]}]),
        &["a.example TCP/22"],
        &problems,
    );
}

#[test]
fn no_ports_and_an_empty_list_of_ports_read_as_the_default() {
    check(
        json!([{"hostname": "a.example", "ports": []}, {"hostname": "b.example", "ports": null}]),
        &["a.example TCP/443", "b.example TCP/443"],
        &[],
    );
    let ports = PortSet::single(Protocol::Udp, 4_500);
    let settings = Settings { default_ports: ports, ..Settings::default() };
    let policy = parse_with(&json!({"destinations": [{"ip": "192.0.2.1"}, {"namespace": {"name": "n2"}}]}), &settings);
    assert_eq!(understood(&policy), ["192.0.2.1/32 UDP/4500", "pods of n2 UDP/4500"]);
}

#[test]
fn ports_have_three_protocols_and_ranges_and_are_sorted() {
    check(
        json!([{"ip": "192.0.2.1", "ports": [
            {"port": 9, "protocol": "SCTP"}, {"port": 53, "protocol": "UDP"}, {"port": 443, "endPort": 444},
            {"port": 80, "protocol": "TCP"}, {"port": 80}, {"port": 1, "endPort": 65535, "protocol": "UDP"},
        ]}]),
        &["192.0.2.1/32 TCP/80 TCP/443-444 UDP/1-65535 UDP/53 SCTP/9"],
        &[],
    );
}

#[test]
fn a_single_label_is_a_problem_and_is_looked_up_all_the_same() {
    check(json!([{"hostname": "db"}]), &["db TCP/443"], &[("spec.destinations[0].hostname", "search lists")]);
}

#[test]
fn a_bad_hole_skips_its_whole_destination() {
    for hole in ["192.0.3.0/25", "192.0.2.0/24", "192.0.0.0/16", "2001:db8::/64", "192.0.2.1", "x"] {
        check(
            json!([{"cidr": "192.0.2.0/24", "except": ["192.0.2.7/32", hole]}, {"ip": "192.0.2.9"}]),
            &["192.0.2.9/32 TCP/443"],
            &[("spec.destinations[0].except[1]", "strictly inside")],
        );
    }
}

#[test]
fn blocks_lose_their_host_bits_and_holes_are_sorted() {
    check(
        json!([{"cidr": "192.0.2.77/24", "except": ["192.0.2.200/25", "192.0.2.7/32", "192.0.2.128/25"]}, {"cidr": "2001:DB8::1/32"}]),
        &["192.0.2.0/24 less 192.0.2.7/32 less 192.0.2.128/25 TCP/443", "2001:db8::/32 TCP/443"],
        &[],
    );
}

#[test]
fn a_host_stands_once_per_port_set_and_its_name_once() {
    let spec = json!({"destinations": [
        {"hostname": "A.example."}, {"hostname": "a.example", "ports": [{"port": 443}]}, {"hostname": "a.example", "ports": [{"port": 22}]},
    ]});
    let policy = parse(&spec);
    assert_eq!(understood(&policy), ["a.example TCP/22", "a.example TCP/443"]);
    assert_eq!(policy.host_names(), [Fqdn::parse("a.example").unwrap()]);
}

#[test]
fn the_administrator_caps_retention_and_never_raises_it() {
    let settings = Settings { max_retention: Some(Duration::from_secs(3_600)), ..Settings::default() };
    for (stored, uncapped, capped) in
        [(json!(null), 7 * 86_400, 3_600), (json!(7_200), 7_200, 3_600), (json!(60), 60, 60), (json!(0), 0, 0)]
    {
        let spec = json!({"retentionSeconds": stored});
        assert_eq!(parse(&spec).retention, Duration::from_secs(uncapped), "{stored}");
        assert_eq!(parse_with(&spec, &settings).retention, Duration::from_secs(capped), "{stored}");
    }
}

/// A destination as a tenant may write it, good or bad.
fn destination() -> impl Strategy<Value = Value> {
    let what = prop::sample::select(vec![
        json!({"hostname": "a.example"}),
        json!({"hostname": "B.example."}),
        json!({"hostname": "*.example"}),
        json!({"hostname": "192.0.2.1"}),
        json!({"ip": "192.0.2.1"}),
        json!({"ip": "2001:db8::1"}),
        json!({"ip": "nonsense"}),
        json!({"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32", "192.0.2.8/29"]}),
        json!({"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29", "192.0.2.1/32"]}),
        json!({"cidr": "192.0.2.0/24", "except": ["192.0.2.0/24"]}),
        json!({"namespace": {"name": "n1"}}),
        json!({"namespace": {"name": "n1", "podSelector": {"matchLabels": {"b": "1", "a": "2"}}}}),
        json!({}),
    ]);
    let ports = prop::sample::select(vec![
        json!(null),
        json!([]),
        json!([{"port": 443}]),
        json!([{"port": 80}, {"port": 443}]),
        json!([{"port": 443, "protocol": "TCP"}, {"port": 80}]),
        json!([{"port": 0}]),
    ]);
    (what, ports).prop_map(|(mut destination, ports)| {
        destination["ports"] = ports;
        destination
    })
}

/// A policy less its problems, and the messages of those: their fields are told by position.
fn comparable(mut policy: ValidatedPolicy) -> (ValidatedPolicy, Vec<String>) {
    let mut messages: Vec<String> = policy.problems.drain(..).map(|problem| problem.message).collect();
    messages.sort_unstable();
    (policy, messages)
}

proptest! {
    #[test]
    fn the_order_of_destinations_never_matters(
        (before, after) in prop::collection::vec(destination(), 0..12)
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let of = |all| comparable(parse(&json!({"destinations": all})));
        prop_assert_eq!(of(before), of(after));
    }

    #[test]
    fn writing_everything_twice_changes_nothing(all in prop::collection::vec(destination(), 0..8)) {
        let of = |all| comparable(parse(&json!({"destinations": all}))).0;
        let twice: Vec<Value> = all.iter().chain(&all).cloned().collect();
        prop_assert_eq!(of(all), of(twice));
    }

    #[test]
    fn whatever_is_listed_is_understood_or_a_problem(one in destination()) {
        let policy = parse(&json!({"destinations": [one]}));
        prop_assert!(!understood(&policy).is_empty() || !policy.problems.is_empty());
    }
}
