//! Files to policies: everything that can be said of the input before anything is looked up.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use egress_domain::object::PolicyKey;
use egress_domain::settings::Settings;

use super::document::{self, Document};
use super::finding::{BadInput, Finding, Report};
use super::hosts::GivenHosts;
use super::input::Inputs;
use super::policy::{self, LoadedPolicy};

/// The input, understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Every EgressPolicy.
    pub policies: BTreeMap<PolicyKey, LoadedPolicy>,
    /// Documents of other kinds.
    pub others: Vec<Document>,
    /// Hosts of `hosts` files and of `--resolve`.
    pub given: GivenHosts,
    /// What there is to tell.
    pub report: Report,
}

/// What to load.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// `--resolve`.
    pub resolve: GivenHosts,
}

impl Sources {
    /// Reads everything; either all of it can be used, or none is.
    pub fn load(&self, settings: &Settings) -> Result<Loaded, BadInput> {
        let inputs = Inputs::find(&self.paths).map_err(BadInput)?;
        let mut loader = Loader { settings, loaded: Loaded::default(), errors: Vec::new() };
        match inputs.read_hosts() {
            Ok(texts) => texts.iter().for_each(|text| loader.hosts(&text.file, &text.text)),
            Err(errors) => loader.errors.extend(errors),
        }
        match inputs.read_objects() {
            Ok(texts) => {
                for text in &texts {
                    let (documents, errors) = document::parse(&text.file, &text.text);
                    loader.errors.extend(errors);
                    documents.into_iter().for_each(|document| loader.document(document));
                }
            }
            Err(errors) => loader.errors.extend(errors),
        }
        let Loader { mut loaded, errors, .. } = loader;
        if !errors.is_empty() {
            return Err(BadInput(errors));
        }
        loaded.given.override_with(self.resolve.clone());
        self.tell_unused(&mut loaded);
        Ok(loaded)
    }

    /// A host of `--resolve` that no policy names is a typo.
    fn tell_unused(&self, loaded: &mut Loaded) {
        for host in self.resolve.hosts() {
            if !loaded.policies.values().any(|policy| policy.hosts.contains_key(host)) {
                let message = format!("--resolve {host}: no policy names this host");
                loaded.report.warnings.push(Finding::general(message));
            }
        }
    }
}

struct Loader<'a> {
    settings: &'a Settings,
    loaded: Loaded,
    errors: Vec<Finding>,
}

impl Loader<'_> {
    fn hosts(&mut self, file: &str, text: &str) {
        match GivenHosts::parse_file(file, text) {
            Ok(hosts) => {
                let names: Vec<String> = hosts.hosts().map(ToString::to_string).collect();
                if !names.is_empty() {
                    let message = format!("gives the addresses of {}; DNS is not asked for them", names.join(", "));
                    self.loaded.report.notes.push(Finding::of_file(file, message));
                }
                self.loaded.given.merge(hosts);
            }
            Err(errors) => self.errors.extend(errors),
        }
    }

    fn document(&mut self, document: Document) {
        if !policy::is_policy(&document.value) {
            return self.loaded.others.push(document);
        }
        match policy::decode(document, self.settings) {
            Ok((policy, report)) => {
                self.loaded.report.extend(report);
                self.add(policy);
            }
            Err(errors) => self.errors.extend(errors),
        }
    }

    fn add(&mut self, policy: LoadedPolicy) {
        match self.loaded.policies.entry(policy.key().clone()) {
            Entry::Vacant(entry) => drop(entry.insert(policy)),
            Entry::Occupied(first) => {
                let message = format!(
                    "EgressPolicy {} stands here a second time; the first is {}",
                    policy.key(),
                    first.get().place
                );
                self.errors.push(Finding::of_field(&policy.place, "metadata.name", message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: platform.example.com/v1alpha1\nkind: EgressPolicy\n";

    #[track_caller]
    fn check(files: &[(&str, &str)], resolve: &[&str], expected: Result<&[&str], &[&str]>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let resolve = resolve.iter().map(|text| text.parse().unwrap()).collect();
        let sources = Sources { paths: vec![folder.path().to_owned()], resolve };
        let loaded = sources.load(&Settings::default());
        let told = loaded
            .map(|loaded| loaded.report.lines())
            .map_err(|BadInput(errors)| errors.iter().map(ToString::to_string).collect());
        let short = |lines: Vec<String>| -> Vec<String> {
            let root = format!("{}/", folder.path().display());
            lines.into_iter().map(|line| line.replace(&root, "")).collect()
        };
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told.map(short).map_err(short), expected.map(owned).map_err(owned));
    }

    #[test]
    fn one_policy_in_two_places_is_an_error_that_names_both() {
        let one = format!("{POLICY}metadata: {{name: a}}\nspec: {{}}\n");
        check(
            &[("a.yaml", &one), ("b.yaml", &format!("a: 1\n---\n{one}"))],
            &[],
            Err(&[
                "b.yaml: document 2: metadata.name: EgressPolicy default/a stands here a second time; the first is a.yaml: document 1",
            ]),
        );
    }

    #[test]
    fn errors_of_all_files_are_told_together() {
        check(
            &[("a.yaml", &format!("{POLICY}metadata: {{name: A}}\nspec: {{}}\n")), ("hosts", "x\n")],
            &[],
            Err(&[
                "hosts: line 1: \"x\" is not HOST=IP",
                "a.yaml: document 1: metadata.name: \"A\" is not a name: lower case letters, digits, '-' and '.', at most 246",
            ]),
        );
    }

    #[test]
    fn a_hosts_file_is_told_and_a_resolve_that_nobody_needs_too() {
        check(
            &[
                ("a.yaml", &format!("{POLICY}metadata: {{name: a}}\nspec: {{destinations: [{{hostname: a.b}}]}}\n")),
                ("hosts", "a.b=192.0.2.1\n"),
            ],
            &["a.b=192.0.2.2", "a.c=192.0.2.3"],
            Ok(&[
                "note: hosts: gives the addresses of a.b; DNS is not asked for them",
                "warning: --resolve a.c: no policy names this host",
            ]),
        );
    }
}
