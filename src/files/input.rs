//! Files and folders that a command line names.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::finding::Finding;
use super::hosts;

/// Stands for standard input.
const STANDARD_INPUT: &str = "-";
/// Endings of the files that are read from a folder; a file that is named is read whatever its ending.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Deeper folders are a mistake, or a loop of mounts.
const MAX_DEPTH: usize = 32;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its name, as messages tell it.
    pub file: Arc<str>,
    /// Its content.
    pub text: String,
}

/// When each file was changed last, and how long it is; nothing of one that is not there any more.
pub type Stamps = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

/// What the command line's paths come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Files with objects, sorted.
    pub objects: Vec<PathBuf>,
    /// Files named `hosts` beside them, sorted.
    pub hosts: Vec<PathBuf>,
    standard_input: bool,
}

impl Inputs {
    /// Finds the files: folders are searched recursively; hidden files and folders are left out (a mounted ConfigMap
    /// keeps its old content in some).
    pub fn find(paths: &[PathBuf]) -> Result<Self, Vec<Finding>> {
        let mut found = Found::default();
        let mut standard_input = false;
        for path in paths {
            if path.as_os_str() == STANDARD_INPUT {
                standard_input = true;
            } else {
                found.add(path, 0);
            }
        }
        if !found.errors.is_empty() {
            return Err(found.errors);
        }
        let folders: BTreeSet<PathBuf> =
            found.files.iter().filter_map(|file| Some(file.parent()?.to_owned())).collect();
        let hosts = folders.into_iter().map(|folder| folder.join(hosts::FILE_NAME)).filter(|file| file.is_file());
        Ok(Self { hosts: hosts.collect(), objects: found.files.into_iter().collect(), standard_input })
    }

    /// Reads the files with objects.
    pub fn read_objects(&self) -> Result<Vec<Text>, Vec<Finding>> {
        let mut texts = read_all(&self.objects)?;
        if self.standard_input {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| vec![Finding::of_file("standard input", error)])?;
            texts.push(Text { file: "standard input".into(), text });
        }
        Ok(texts)
    }

    /// Reads the `hosts` files.
    pub fn read_hosts(&self) -> Result<Vec<Text>, Vec<Finding>> {
        read_all(&self.hosts)
    }

    /// Changes whenever one of the files does, as far as the file system tells.
    pub fn stamps(&self) -> Stamps {
        let stamp = |path: &PathBuf| {
            let metadata = path.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        self.objects.iter().chain(&self.hosts).map(|path| (path.clone(), stamp(path))).collect()
    }
}

#[derive(Default)]
struct Found {
    files: BTreeSet<PathBuf>,
    /// Files by their real path: one that is named twice is read once.
    seen: BTreeSet<PathBuf>,
    errors: Vec<Finding>,
}

impl Found {
    fn add(&mut self, path: &Path, depth: usize) {
        if let Err(error) = self.try_add(path, depth) {
            self.errors.push(Finding::of_file(&path.display().to_string(), error));
        }
    }

    fn try_add(&mut self, path: &Path, depth: usize) -> std::io::Result<()> {
        if !path.metadata()?.is_dir() {
            if self.seen.insert(path.canonicalize()?) {
                self.files.insert(path.to_owned());
            }
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(std::io::Error::other(format!("folders are nested deeper than {MAX_DEPTH}")));
        }
        let mut entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let path = entry.path();
            // A link to a folder is not followed: it may lead back here.
            let is_folder = entry.file_type()?.is_dir();
            let has_ending = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
            if !name.starts_with('.') && (is_folder || has_ending && path.is_file()) {
                self.add(&path, depth + 1);
            }
        }
        Ok(())
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Text>, Vec<Finding>> {
    let mut texts = Vec::with_capacity(paths.len());
    let mut errors = Vec::new();
    for path in paths {
        // The folder where the command runs goes without saying.
        let file = path.strip_prefix(".").unwrap_or(path).display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => texts.push(Text { file: file.into(), text }),
            Err(error) => errors.push(Finding::of_file(&file, error)),
        }
    }
    if errors.is_empty() { Ok(texts) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[&str], paths: &[&str], objects: &[&str], hosts: &[&str]) {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let at = |names: &[&str]| names.iter().map(|name| root.path().join(name)).collect::<Vec<_>>();
        let found = Inputs::find(&at(paths)).unwrap();
        assert_eq!((found.objects, found.hosts), (at(objects), at(hosts)));
    }

    #[test]
    fn a_folder_is_searched_recursively_for_yaml_and_json() {
        check(
            &[
                "in/b.yaml",
                "in/a/c.yml",
                "in/a/d.json",
                "in/e.txt",
                "in/.git/f.yaml",
                "in/.g.yaml",
                "in/a/hosts",
                "hosts",
            ],
            &["in"],
            &["in/a/c.yml", "in/a/d.json", "in/b.yaml"],
            &["in/a/hosts"],
        );
    }

    #[test]
    fn a_file_named_twice_is_read_once_and_a_named_one_needs_no_ending() {
        check(&["a.yaml", "b", "hosts"], &["a.yaml", ".", "b"], &["a.yaml", "b"], &["hosts"]);
    }

    #[test]
    fn every_path_that_is_not_there_is_told() {
        let errors = Inputs::find(&["/nowhere/a".into(), "/nowhere/b".into()]).unwrap_err();
        assert_eq!(errors.len(), 2);
        assert!(errors[0].to_string().starts_with("/nowhere/a: "), "{}", errors[0]);
    }
}
