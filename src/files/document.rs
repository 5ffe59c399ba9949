//! A text of YAML documents, taken apart so that every error can say which document it is about.

use std::sync::Arc;

use serde_json::Value;

use super::finding::{Finding, Place};

/// One document, or one item of a document of kind List.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it was read.
    pub place: Place,
    /// Its content.
    pub value: Value,
}

/// Parses every document of a text, YAML or JSON. Documents without content have no number. One that does not parse
/// does not hide the others' errors.
pub fn parse(file: &Arc<str>, text: &str) -> (Vec<Document>, Vec<Finding>) {
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for (index, source) in split(text).into_iter().enumerate() {
        let place = Place { file: Arc::clone(file), document: index + 1, item: None };
        match serde_saphyr::from_str::<Value>(&source) {
            Ok(value) => documents.extend(items(Document { place, value })),
            Err(error) => errors.push(Finding::of_field(&place, "", describe(&error))),
        }
    }
    (documents, errors)
}

/// `kubectl get -o yaml` prints a List: its items stand for the document.
fn items(document: Document) -> Vec<Document> {
    let Document { place, mut value } = document;
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => {
            let at = |item| Place { item: Some(item), ..place.clone() };
            items.into_iter().enumerate().map(|(index, value)| Document { place: at(index), value }).collect()
        }
        Some(other) => {
            if let Some(items) = value.get_mut("items") {
                *items = other;
            }
            vec![Document { place, value }]
        }
        None => vec![Document { place, value }],
    }
}

/// The documents of a text, each after as many empty lines as stand before it, so that line numbers are those of the
/// file. Three hyphens at the start of a line separate documents wherever they stand (YAML 1.2.2, 9.1.2).
fn split(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        let rest = ["---", "..."].iter().find_map(|marker| line.strip_prefix(marker));
        let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if rest.is_some() {
            documents.push("\n".repeat(number));
        }
        if let Some(last) = documents.last_mut() {
            last.push_str(rest.unwrap_or(line));
            last.push('\n');
        }
    }
    documents.retain(|document| !is_blank(document));
    documents
}

/// Only comments, directives and white space.
fn is_blank(document: &str) -> bool {
    document.lines().map(str::trim_start).all(|line| line.is_empty() || line.starts_with(['#', '%']))
}

fn describe(error: &serde_saphyr::Error) -> String {
    // The first line says it; the rest is a drawing of the place.
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default().to_owned();
    match error.location() {
        Some(at) if !text.contains("line ") => format!("line {}, column {}: {text}", at.line(), at.column()),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(text: &str, expected: &[(usize, Option<usize>, Value)]) {
        let (documents, errors) = parse(&"f.yaml".into(), text);
        let found: Vec<_> = documents.into_iter().map(|d| (d.place.document, d.place.item, d.value)).collect();
        assert_eq!((found.as_slice(), errors), (expected, vec![]), "{text}");
    }

    #[test]
    fn documents_are_numbered_without_the_empty_ones() {
        check("a: 1\n---\na: 2\n", &[(1, None, json!({"a": 1})), (2, None, json!({"a": 2}))]);
        check("# only a comment\n---\n\n---\na: 1\n...\n---\n# end\n", &[(1, None, json!({"a": 1}))]);
        check("--- # with a comment\na: 1\r\n--- {a: 2}\n", &[(1, None, json!({"a": 1})), (2, None, json!({"a": 2}))]);
        check("%YAML 1.2\n---\na: 1\n", &[(1, None, json!({"a": 1}))]);
        check("", &[]);
    }

    #[test]
    fn hyphens_that_belong_to_a_text_separate_nothing() {
        check("a: |\n  ---\n  b\n", &[(1, None, json!({"a": "---\nb\n"}))]);
        check("a: ---b\n", &[(1, None, json!({"a": "---b"}))]);
    }

    #[test]
    fn json_is_read_too_also_with_tabs() {
        check("{\n\t\"a\": [1, \"\\u00e9\\/\"]\n}\n", &[(1, None, json!({"a": [1, "é/"]}))]);
    }

    #[test]
    fn items_of_a_list_stand_for_it() {
        check("kind: List\nitems: [{a: 1}, {a: 2}]\n", &[(1, Some(0), json!({"a": 1})), (1, Some(1), json!({"a": 2}))]);
        check("kind: Box\nitems: [1]\n", &[(1, None, json!({"kind": "Box", "items": [1]}))]);
    }

    #[test]
    fn an_error_names_document_and_line_of_the_file_and_hides_no_other_document() {
        let (documents, errors) = parse(&"f.yaml".into(), "a: 1\n---\nb: [1\nc: 2\n---\nd: 4\n");
        assert_eq!(documents.len(), 2);
        let text = errors[0].to_string();
        assert!(text.starts_with("f.yaml: document 2: ") && text.contains("line "), "{text}");
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        let (_, errors) = parse(&"f.yaml".into(), "a: 1\na: 2\n");
        assert_eq!(errors.len(), 1);
    }
}
