//! `--diff` against files.

use crate::folder::{Folder, policy};

fn folder() -> Folder {
    let folder = Folder::new(&[("in/a.yaml", &policy("a", "{destinations: [{ip: 192.0.2.1}, {ip: 192.0.2.2}]}"))]);
    folder.render(&["in", "-o", "there"]);
    folder
}

#[test]
fn what_was_rendered_does_not_differ() {
    assert_eq!(folder().render(&["in", "--diff", "there"]).expect(0, &[]), "");
}

#[test]
fn what_the_api_server_makes_of_it_does_not_differ() {
    let folder = folder();
    let text = |name: &str| folder.read(&format!("there/{name}.yaml")).unwrap();
    let indented =
        |text: String| text.lines().map(|line| format!("  {line}\n")).collect::<String>().replacen("  ", "- ", 1);
    let list = ["team-default-deny-egress", "team-egress-a"].map(|name| indented(text(name))).concat();
    // Another order, uid and status: what kubectl prints.
    let swapped =
        list.replace("192.0.2.1/32", "first").replace("192.0.2.2/32", "192.0.2.1/32").replace("first", "192.0.2.2/32");
    folder.write(
        "live.yaml",
        &format!(
            "apiVersion: v1\nkind: List\nitems:\n{}",
            swapped.replace("  metadata:\n", "  metadata:\n    uid: x\n")
        ),
    );
    assert_eq!(folder.render(&["in", "--diff", "live.yaml"]).expect(0, &[]), "");
}

#[test]
fn differing_missing_and_extra_objects_are_shown() {
    let folder = folder();
    folder.write("in/a.yaml", &policy("a", "{destinations: [{ip: 192.0.2.1}, {ip: 192.0.2.3}]}"));
    folder.write("in/b.yaml", &policy("b", "{namespaces: [c]}"));
    std::fs::rename(folder.path("there/team-default-deny-egress.yaml"), folder.path("there/x")).unwrap();
    let extra = folder.read("there/x").unwrap().replace("name: default-deny-egress", "name: egress-old");
    folder.write("there/old.yaml", &extra);
    let ended = folder.render(&["in", "--diff", "there"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
    for part in [
        "--- team/default-deny-egress (missing)\n+++ team/default-deny-egress (rendered)\n",
        "--- team/egress-a (there/team-egress-a.yaml: document 1)\n+++ team/egress-a (rendered)\n",
        "-        cidr: 192.0.2.2/32\n",
        "+        cidr: 192.0.2.3/32\n",
        "--- team/egress-b (missing)\n",
        "--- team/egress-old (there/old.yaml: document 1)\n+++ team/egress-old (not rendered)\n",
    ] {
        assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
    }
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let folder = folder();
    assert_eq!(folder.render(&["in", "--diff", "nowhere"]).code, Some(2));
    let one = folder.read("there/team-egress-a.yaml").unwrap();
    folder.write("there/again.yaml", &one);
    let told = "error: there/team-egress-a.yaml: document 1: metadata.name: NetworkPolicy team/egress-a stands here a second time; the first is there/again.yaml: document 1";
    folder.render(&["in", "--diff", "there"]).expect(2, &[told]);
    folder.render(&["in", "--diff", "there", "--watch", "-o", "x"]).expect_usage_error();
}

impl crate::folder::Ended {
    #[track_caller]
    fn expect_usage_error(self) {
        assert_eq!(self.code, Some(2));
        assert!(self.stderr.contains("Usage:"), "{}", self.stderr);
    }
}
