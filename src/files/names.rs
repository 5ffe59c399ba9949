//! Names of Kubernetes objects, checked where they could otherwise become file names or surprises.

/// RFC 1123 label, as the API server wants a namespace to be named.
const MAX_LABEL: usize = 63;
/// `egress-{name}` has at most 253 characters; the CRD says the same.
const MAX_POLICY_NAME: usize = 246;

/// Whether a namespace can have this name.
pub fn is_namespace(text: &str) -> bool {
    is_label(text) && text.len() <= MAX_LABEL
}

/// Whether an EgressPolicy can have this name (RFC 1123 subdomain).
pub fn is_policy_name(text: &str) -> bool {
    text.len() <= MAX_POLICY_NAME && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(legal) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_api_server_takes_are_names() {
        for (name, namespace, policy) in [
            ("team-a", true, true),
            ("a.b", false, true),
            ("../up", false, false),
            ("A", false, false),
            ("", false, false),
            ("-a", false, false),
            ("a..b", false, false),
        ] {
            assert_eq!((is_namespace(name), is_policy_name(name)), (namespace, policy), "{name}");
        }
        assert!(!is_policy_name(&"a".repeat(247)) && is_policy_name(&"a".repeat(246)));
        assert!(!is_namespace(&"a".repeat(64)));
    }
}
