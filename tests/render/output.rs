//! What is printed or written.

use crate::folder::{Folder, policy, render_examples};

/// What the policy of the article comes to; the article's own output, less its mistakes.
const SEED: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  labels:
    app.kubernetes.io/managed-by: egress-controller
  name: default-deny-egress
  namespace: app-namespace
spec:
  podSelector: {}
  policyTypes:
  - Egress
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  labels:
    app.kubernetes.io/managed-by: egress-controller
  name: egress-allow-external-services
  namespace: app-namespace
spec:
  egress:
  - ports:
    - port: 53
      protocol: TCP
    - port: 53
      protocol: UDP
    to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
  - ports:
    - port: 443
      protocol: TCP
    to:
    - ipBlock:
        cidr: 8.8.8.8/32
    - ipBlock:
        cidr: 192.0.2.10/32
    - ipBlock:
        cidr: 192.0.2.20/32
    - ipBlock:
        cidr: 192.0.2.21/32
  - to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: backup-tools
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: shared-services
  podSelector: {}
  policyTypes:
  - Egress
";
const HOSTS_NOTE: &str = "note: examples/hosts: gives the addresses of api.github.com, packages.example.org, smtp.example.net, \
                          us1.datadoghq.com; DNS is not asked for them";

#[test]
fn the_resource_of_the_python_operator_gives_its_network_policies() {
    let printed = render_examples(&["examples/seed.yaml"]).expect(0, &[HOSTS_NOTE]);
    assert_eq!(printed, SEED);
}

#[test]
fn the_examples_need_no_dns() {
    // A server that refuses: asking it would leave warnings.
    let printed = render_examples(&["examples/", "--dns-servers", "127.0.0.1:1", "--strict"]).expect(
        0,
        &[
            HOSTS_NOTE,
            "note: examples/selectors.yaml: document 2: spec.mode: DryRun: nothing is rendered for shop/tried-out",
        ],
    );
    assert_eq!(printed.matches("kind: NetworkPolicy").count(), 8);
    assert!(printed.contains(SEED), "{printed}");
}

#[test]
fn no_objects_are_an_empty_output_and_a_warning() {
    let folder = Folder::new(&[("a.yaml", "kind: Secret\n---\nkind: Pod\n")]);
    let told = ["note: 2 documents of other kinds ignored", "warning: the input has no EgressPolicy"];
    assert_eq!(folder.render(&[]).expect(0, &told), "");
}

#[test]
fn a_folder_gets_one_file_per_object_and_only_what_changed() {
    let folder = Folder::new(&[("in/a.yaml", &policy("a", "{destinations: [{ip: 192.0.2.1}]}"))]);
    folder.render(&["in", "-o", "out"]).expect(0, &["note: out: 2 files written, 0 unchanged"]);
    assert_eq!(folder.names("out"), ["team-default-deny-egress.yaml", "team-egress-a.yaml"]);
    let first = folder.read("out/team-egress-a.yaml").unwrap();
    assert!(first.contains("cidr: 192.0.2.1/32"), "{first}");

    folder.render(&["in", "-o", "out"]).expect(0, &["note: out: 0 files written, 2 unchanged"]);
    folder.write("in/a.yaml", &policy("b", "{destinations: [{ip: 192.0.2.1}]}"));
    let stale =
        "warning: out/team-egress-a.yaml: was rendered earlier and is not any more; remove it if it is not needed";
    folder.render(&["in", "-o", "out"]).expect(0, &["note: out: 1 files written, 1 unchanged", stale]);
}

#[test]
fn bad_input_leaves_the_files_as_they_are() {
    let folder = Folder::new(&[("in/a.yaml", &policy("a", "{destinations: [{ip: 192.0.2.1}]}"))]);
    folder.render(&["in", "-o", "out"]);
    folder.write("in/a.yaml", &policy("a", "{destinations: [{ip: 192.0.2.2}]}"));
    folder.write("in/b.yaml", "a: [1\n");
    let ended = folder.render(&["in", "-o", "out"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(folder.read("out/team-egress-a.yaml").unwrap().contains("192.0.2.1/32"));
    assert_eq!(folder.render(&["in", "-o", "new"]).code, Some(2));
    assert!(!folder.path("new").exists());
}

#[test]
fn the_order_of_the_input_means_nothing() {
    let mut documents: Vec<String> = (0..6)
        .map(|n| {
            policy(
                &format!("p{n}"),
                &format!("{{destinations: [{{hostname: h{n}.example}}, {{ip: 192.0.2.{n}}}], namespaces: [b, a]}}"),
            )
        })
        .collect();
    let resolve: Vec<String> = (0..6).map(|n| format!("h{n}.example=198.51.100.{n},198.51.100.9")).collect();
    let args: Vec<&str> = resolve.iter().flat_map(|given| ["--resolve", given.as_str()]).collect();
    let mut outputs = std::collections::BTreeSet::new();
    for turn in 0..12 {
        // Every document comes to stand at every place, in one file, in two, or in one each.
        documents.rotate_left(1);
        if turn % 3 == 0 {
            documents.reverse();
        }
        let size = [6, 3, 1][turn % 3];
        let folder = Folder::new(&[]);
        for (index, part) in documents.chunks(size).enumerate() {
            folder.write(&format!("{index}.yaml"), &part.join("---\n"));
        }
        outputs.insert(folder.render(&args).expect(0, &[]));
    }
    assert_eq!(outputs.len(), 1);
}

#[test]
fn flags_decide_what_the_spec_leaves_out() {
    let folder = Folder::new(&[("a.yaml", &policy("a", "{destinations: [{ip: 192.0.2.1}]}"))]);
    let printed = folder
        .render(&[
            "--default-deny",
            "off",
            "--default-ports",
            "UDP/53,8000-8010",
            "--dns-egress",
            "10.96.0.10,port:5353",
        ])
        .expect(0, &[]);
    for part in ["cidr: 10.96.0.10/32", "port: 5353", "endPort: 8010", "protocol: UDP"] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    for part in ["kube-system", "default-deny", "port: 443"] {
        assert!(!printed.contains(part), "{part} in {printed}");
    }
}

#[test]
fn what_only_a_cluster_can_tell_is_refused() {
    let folder = Folder::new(&[("a.yaml", &policy("a", "{}"))]);
    let auto = "error: --dns-egress auto needs a cluster: use seed, or a list";
    folder.render(&["--dns-egress", "auto"]).expect(2, &[auto]);
    let cluster = "error: --dns-servers cluster needs a cluster: use system, or a list";
    folder.render(&["--dns-servers", "cluster"]).expect(2, &[cluster]);
}

#[test]
fn a_protected_namespace_is_left_out_with_a_warning() {
    let text = policy("a", "{namespaces: [b]}").replace("namespace: team", "namespace: kube-system");
    let folder = Folder::new(&[("a.yaml", &text)]);
    let told = "warning: a.yaml: document 1: metadata.namespace: \"kube-system\" is protected: nothing is rendered for kube-system/a";
    assert_eq!(folder.render(&[]).expect(0, &[told]), "");
}
