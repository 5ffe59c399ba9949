//! A validated host name.

use std::fmt;
use std::sync::Arc;

/// Octets of a name on the wire are at most 255 (RFC 1035, 2.3.4): 253 characters without the trailing dot.
const MAX_NAME: usize = 253;
/// RFC 1035, 2.3.4.
const MAX_LABEL: usize = 63;

/// A fully qualified host name: lower case, A-labels only, no trailing dot. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fqdn(Arc<str>);

/// Why a string is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FqdnError {
    /// Nothing, or only a dot.
    #[error("a host name is empty")]
    Empty,
    /// `*` cannot be resolved, so no list of addresses can stand for it.
    #[error("wildcards cannot be resolved to addresses: name each host, or use a cidr")]
    Wildcard,
    /// Over 253 characters.
    #[error("a host name has at most {MAX_NAME} characters")]
    TooLong,
    /// A label is empty, over 63 characters, or begins or ends with a hyphen.
    #[error("label {0:?}: a label has 1 to {MAX_LABEL} characters and no hyphen at either end")]
    Label(String),
    /// Not a letter, digit, hyphen or underscore, and not convertible to an A-label.
    #[error("{0:?} has characters that no host name has")]
    Characters(String),
}

impl Fqdn {
    /// Parses a host name as a person writes it: any case, U-labels (IDNA 2008, UTS 46), an optional trailing dot.
    /// Underscores are legal: real names have them.
    pub fn parse(text: &str) -> Result<Self, FqdnError> {
        let text = text.trim();
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(FqdnError::Empty);
        }
        if text.contains('*') {
            return Err(FqdnError::Wildcard);
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(text).map_err(|_| FqdnError::Characters(text.to_owned()))?
        };
        if ascii.len() > MAX_NAME {
            return Err(FqdnError::TooLong);
        }
        for label in ascii.split('.') {
            if label.is_empty() || label.len() > MAX_LABEL || label.starts_with('-') || label.ends_with('-') {
                return Err(FqdnError::Label(label.to_owned()));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(FqdnError::Characters(label.to_owned()));
            }
        }
        Ok(Self(ascii.into()))
    }

    /// The name without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name of one label, as `localhost` or `db`: search lists are not applied, so it rarely resolves.
    pub fn is_single_label(&self) -> bool {
        !self.0.contains('.')
    }

    /// Whether the name is `domain` or below it.
    pub fn is_under(&self, domain: &Fqdn) -> bool {
        self.0.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Fqdn {
    type Err = FqdnError;

    fn from_str(text: &str) -> Result<Self, FqdnError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, FqdnError>) {
        assert_eq!(Fqdn::parse(text).map(|name| name.to_string()), expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn names_become_lower_case_a_labels_without_a_trailing_dot() {
        check("API.GitHub.com", Ok("api.github.com"));
        check("example.com.", Ok("example.com"));
        check("bücher.example", Ok("xn--bcher-kva.example"));
        check("_dmarc.example.com", Ok("_dmarc.example.com"));
        check(" example.com ", Ok("example.com"));
        check("localhost", Ok("localhost"));
    }

    #[test]
    fn what_is_no_host_name_is_refused_with_its_reason() {
        check("", Err(FqdnError::Empty));
        check(".", Err(FqdnError::Empty));
        check("*.example.com", Err(FqdnError::Wildcard));
        check("a..b", Err(FqdnError::Label(String::new())));
        check("-a.example", Err(FqdnError::Label("-a".into())));
        check("https://example.com", Err(FqdnError::Characters("https://example".into())));
        check(&format!("{}.com", "a".repeat(64)), Err(FqdnError::Label("a".repeat(64))));
        check(&format!("{}com", "abcdefg.".repeat(32)), Err(FqdnError::TooLong));
    }

    #[test]
    fn a_name_is_under_its_own_domain_only() {
        let domain = Fqdn::parse("cluster.local").unwrap();
        for (name, expected) in [("db.cluster.local", true), ("cluster.local", true), ("notcluster.local", false)] {
            assert_eq!(Fqdn::parse(name).unwrap().is_under(&domain), expected, "{name}");
        }
    }
}
