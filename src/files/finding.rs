//! What is said about a place in the input: in which file, which document, which field.

use std::fmt;
use std::sync::Arc;

/// Where an object was read. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// Index of the item, in a document of kind List.
    pub item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, ": items[{item}]"))
    }
}

/// One thing to tell about the input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File, document, field: as much as is known, each followed by a colon in the text.
    at: Vec<String>,
    /// What is wrong, and what to do.
    message: String,
}

impl Finding {
    /// About a field of an object; an empty field is the whole object.
    pub fn of_field(place: &Place, field: &str, message: impl ToString) -> Self {
        let at = [place.to_string(), field.to_owned()].into_iter().filter(|part| !part.is_empty());
        Self { at: at.collect(), message: message.to_string() }
    }

    /// About a file as a whole.
    pub fn of_file(file: &str, message: impl ToString) -> Self {
        Self { at: vec![file.to_owned()], message: message.to_string() }
    }

    /// About the run as a whole.
    pub fn general(message: impl ToString) -> Self {
        Self { at: Vec::new(), message: message.to_string() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.at {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// The input cannot be used; every reason that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadInput(pub Vec<Finding>);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            // The caller writes `error: ` before the first.
            write!(f, "{}{finding}", if index == 0 { "" } else { "\nerror: " })?;
        }
        Ok(())
    }
}

impl std::error::Error for BadInput {}

/// What a run tells beside its result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the result depends on and a reader may not expect.
    pub notes: Vec<Finding>,
    /// What is probably not meant so; `--strict` makes it a failure.
    pub warnings: Vec<Finding>,
}

impl Report {
    /// Takes over what another report tells.
    pub fn extend(&mut self, other: Self) {
        self.notes.extend(other.notes);
        self.warnings.extend(other.warnings);
    }

    /// The lines of standard error, sorted: the order of the input means nothing.
    pub fn lines(&self) -> Vec<String> {
        let lines = |kind: &str, findings: &[Finding]| {
            let mut findings: Vec<&Finding> = findings.iter().collect();
            findings.sort();
            findings.dedup();
            findings.into_iter().map(|finding| format!("{kind}: {finding}")).collect::<Vec<_>>()
        };
        [lines("note", &self.notes), lines("warning", &self.warnings)].concat()
    }
}
