//! NetworkPolicies as YAML: one stream, or one file per object.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use egress_domain::api::{FIELD_MANAGER, MANAGED_BY_LABEL};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;

use super::document;
use super::session::Objects;

/// The YAML of an object: keys sorted, so that the same object is the same text.
///
/// # Errors
/// When it cannot be serialised, which is a defect.
pub fn to_yaml(object: &impl serde::Serialize) -> Result<String> {
    // By way of a JSON value, whose maps are sorted.
    let mut value = serde_json::to_value(object)?;
    write_integers(&mut value);
    Ok(serde_saphyr::to_string(&value)?)
}

/// Bounds in a schema are floating-point numbers, and nobody writes `65535.0`.
fn write_integers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(write_integers),
        Value::Object(fields) => fields.values_mut().for_each(write_integers),
        Value::Number(number) => {
            // Exact below 2^53; no bound of ours comes near.
            let integer = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15);
            if let Some(integer) = integer.and_then(|float| format!("{float:.0}").parse::<i64>().ok()) {
                *value = integer.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// All objects as one stream of documents.
///
/// # Errors
/// When one cannot be serialised, which is a defect.
pub fn stream(objects: &Objects) -> Result<String> {
    let documents: Vec<String> = objects.values().map(to_yaml).collect::<Result<_>>()?;
    Ok(documents.join("---\n"))
}

/// What became of the files of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files that are new or have new content.
    pub changed: Vec<PathBuf>,
    /// How many had their content already.
    pub unchanged: usize,
    /// Files with an object of ours that is not rendered any more.
    pub stale: Vec<PathBuf>,
}

/// Writes one file per object into a folder. Every file is staged before the first one is put in its place, and each is
/// replaced as a whole: a reader never sees half a file, and a failure leaves the old ones.
///
/// # Errors
/// When the folder cannot be written, or two objects would have one file name.
pub fn write_folder(objects: &Objects, folder: &Path) -> Result<Written> {
    let files = contents(objects, folder)?;
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    let mut staged = Staged::default();
    let mut written = Written { stale: stale(folder, &files)?, ..Written::default() };
    for (path, text) in &files {
        if std::fs::read(path).is_ok_and(|present| present == text.as_bytes()) {
            written.unchanged += 1;
        } else {
            staged.stage(path, text).with_context(|| format!("{}: cannot be written", path.display()))?;
            written.changed.push(path.clone());
        }
    }
    staged.publish().with_context(|| format!("{}: cannot be written", folder.display()))?;
    Ok(written)
}

fn contents(objects: &Objects, folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    for ((namespace, name), object) in objects {
        let path = folder.join(format!("{namespace}-{name}.yaml"));
        if files.insert(path.clone(), to_yaml(object)?).is_some() {
            bail!("{}: two objects would have this file name; one of them is {namespace}/{name}", path.display());
        }
    }
    Ok(files)
}

/// Files beside the hidden ones they will replace; what is not published is removed again.
#[derive(Default)]
struct Staged(Vec<(PathBuf, PathBuf)>);

impl Staged {
    fn stage(&mut self, path: &Path, text: &str) -> std::io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
        self.0.push((temporary.clone(), path.to_owned()));
        std::fs::write(temporary, text)
    }

    fn publish(mut self) -> std::io::Result<()> {
        while let Some((temporary, path)) = self.0.last() {
            std::fs::rename(temporary, path)?;
            self.0.pop();
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (temporary, _) in &self.0 {
            // Best effort: the error that led here is the one to tell.
            drop(std::fs::remove_file(temporary));
        }
    }
}

/// Files of the folder that hold a NetworkPolicy of ours and are not among `files`.
fn stale(folder: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{}: cannot be read", folder.display()))?;
    let mut stale = BTreeSet::new();
    for entry in entries {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|ending| ending == "yaml");
        if is_yaml && !files.contains_key(&path) && std::fs::read_to_string(&path).is_ok_and(|text| is_ours(&text)) {
            stale.insert(path);
        }
    }
    Ok(stale.into_iter().collect())
}

fn is_ours(text: &str) -> bool {
    let (documents, _) = document::parse(&"".into(), text);
    let mut objects = documents.into_iter().filter_map(|document| network_policy(&document.value));
    objects.next().is_some_and(|object| is_managed(&object))
}

/// Whether an object carries our label.
pub fn is_managed(object: &NetworkPolicy) -> bool {
    let label = object.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY_LABEL));
    label.is_some_and(|manager| manager == FIELD_MANAGER)
}

/// The NetworkPolicy in a document, if that is what it is.
pub fn network_policy(value: &Value) -> Option<NetworkPolicy> {
    let is = |key, wanted| value.get(key).and_then(Value::as_str) == Some(wanted);
    let is_one = is("kind", "NetworkPolicy") && is("apiVersion", "networking.k8s.io/v1");
    is_one.then(|| serde_json::from_value(value.clone()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use egress_domain::network_policy::default_deny;

    fn objects(names: &[(&str, &str)]) -> Objects {
        let object = |namespace: &str, name: &str| {
            let mut object = default_deny(namespace);
            object.metadata.name = Some(name.to_owned());
            object
        };
        names.iter().map(|(ns, name)| (((*ns).to_owned(), (*name).to_owned()), object(ns, name))).collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_changed_is_written_and_stale_files_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let first = write_folder(&objects(&[("a", "x"), ("a", "y")]), folder.path()).unwrap();
        assert_eq!((first.changed, first.unchanged), (vec![path("a-x.yaml"), path("a-y.yaml")], 0));
        std::fs::write(path("other.yaml"), "kind: Secret\n").unwrap();
        let second = write_folder(&objects(&[("a", "x"), ("b", "x")]), folder.path()).unwrap();
        assert_eq!((second.changed, second.unchanged), (vec![path("b-x.yaml")], 1));
        assert_eq!(second.stale, [path("a-y.yaml")]);
        assert_eq!(names(folder.path()), ["a-x.yaml", "a-y.yaml", "b-x.yaml", "other.yaml"]);
    }

    #[test]
    fn two_objects_with_one_file_name_are_an_error_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let clash = objects(&[("a", "egress-b-egress-c"), ("a-egress-b", "egress-c")]);
        assert!(write_folder(&clash, folder.path()).is_err());
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn a_failure_leaves_nothing_half_written() {
        let folder = tempfile::tempdir().unwrap();
        // A folder where the second file should go: the rename fails.
        std::fs::create_dir(folder.path().join("a-x.yaml")).unwrap();
        std::fs::create_dir(folder.path().join("a-x.yaml/sub")).unwrap();
        assert!(write_folder(&objects(&[("a", "x")]), folder.path()).is_err());
        assert_eq!(names(folder.path()), ["a-x.yaml"]);
    }

    #[test]
    fn text_that_other_readers_would_take_for_something_else_is_quoted() {
        let value = serde_json::json!({"a": ["no", "1_000", "0x1f", "12e3", "null", "::1/128", "2001:db8::/32", "1:20", "443", ""]});
        let text = to_yaml(&value).unwrap();
        for line in text.lines().skip(1).filter(|line| !line.contains("2001")) {
            assert!(line.contains(['"', '\'']), "{line}");
        }
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value);
    }
}
