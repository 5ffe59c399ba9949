//! What a request asks of the API server, in the words of Kubernetes.

use std::fmt;

use hyper::{Method, Uri};

/// The verb of a request as RBAC and audit logs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// One object, or a path that is no resource.
    Get,
    /// A collection.
    List,
    /// A stream of events.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH of whatever content type, server-side apply included.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// A method that Kubernetes gives no verb.
    Other,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Other => "other",
        })
    }
}

/// What one request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The verb.
    pub verb: Verb,
    /// API group; empty for the core group and for paths that are no resource.
    pub group: String,
    /// Plural resource, with its subresource as RBAC writes it: `egresspolicies/status`. For other paths (`/version`) the path.
    pub resource: String,
    /// Namespace, if the request names one.
    pub namespace: Option<String>,
    /// Name of the object, if the request names one.
    pub name: Option<String>,
}

impl Target {
    /// Reads method and path; never fails, because every path is at least a path.
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
        let group = match parts.next() {
            Some("api") => Some(""),
            Some("apis") => parts.next(),
            _ => None,
        };
        let version = parts.next();
        let rest: Vec<&str> = parts.collect();
        let (Some(group), Some(_), false) = (group, version, rest.is_empty()) else {
            return Self::path(method, uri.path());
        };
        let (namespace, rest) = split_namespace(&rest);
        let name = rest.get(1).map(|name| (*name).to_owned());
        let mut resource = rest.first().copied().unwrap_or_default().to_owned();
        if let Some(subresource) = rest.get(2) {
            resource = format!("{resource}/{subresource}");
        }
        Self {
            verb: verb(method, uri, name.is_some()),
            group: group.to_owned(),
            resource,
            namespace: namespace.map(str::to_owned),
            name,
        }
    }

    fn path(method: &Method, path: &str) -> Self {
        let verb = match *method {
            Method::GET | Method::HEAD => Verb::Get,
            _ => Verb::Other,
        };
        Self { verb, group: String::new(), resource: path.to_owned(), namespace: None, name: None }
    }
}

/// Takes `namespaces/NS` off; a Namespace object itself belongs to no namespace.
fn split_namespace<'a, 'b>(rest: &'b [&'a str]) -> (Option<&'a str>, &'b [&'a str]) {
    match rest {
        ["namespaces", _, "status" | "finalize"] => (None, rest),
        ["namespaces", namespace, inside @ ..] if !inside.is_empty() => (Some(*namespace), inside),
        _ => (None, rest),
    }
}

fn verb(method: &Method, uri: &Uri, named: bool) -> Verb {
    match (method, named) {
        (&Method::GET | &Method::HEAD, _) if asks_to_watch(uri) => Verb::Watch,
        (&Method::GET | &Method::HEAD, true) => Verb::Get,
        (&Method::GET | &Method::HEAD, false) => Verb::List,
        (&Method::POST, _) => Verb::Create,
        (&Method::PUT, _) => Verb::Update,
        (&Method::PATCH, _) => Verb::Patch,
        (&Method::DELETE, true) => Verb::Delete,
        (&Method::DELETE, false) => Verb::DeleteCollection,
        _ => Verb::Other,
    }
}

fn asks_to_watch(uri: &Uri) -> bool {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    parameters.any(|parameter| matches!(parameter, "watch" | "watch=true" | "watch=1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: Method, uri: &'static str) -> Target {
        Target::of(&method, &Uri::from_static(uri))
    }

    fn expect(verb: Verb, group: &str, resource: &str, place: (Option<&str>, Option<&str>)) -> Target {
        Target {
            verb,
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: place.0.map(str::to_owned),
            name: place.1.map(str::to_owned),
        }
    }

    #[test]
    fn collections_are_listed_watched_and_deleted() {
        let networking = "networking.k8s.io";
        let all = "/apis/networking.k8s.io/v1/networkpolicies";
        let listed = expect(Verb::List, networking, "networkpolicies", (None, None));
        assert_eq!(target(Method::GET, all), listed);
        let watched = "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies?limit=5&watch=true";
        let expected = expect(Verb::Watch, networking, "networkpolicies", (Some("a"), None));
        assert_eq!(target(Method::GET, watched), expected);
        assert_eq!(target(Method::DELETE, all).verb, Verb::DeleteCollection);
        assert_eq!(target(Method::GET, "/api/v1/pods?watch=false").verb, Verb::List);
    }

    #[test]
    fn objects_and_their_subresources_are_told_apart() {
        let group = "platform.example.com";
        let path = "/apis/platform.example.com/v1alpha1/namespaces/a/egresspolicies/web";
        let object = expect(Verb::Patch, group, "egresspolicies", (Some("a"), Some("web")));
        assert_eq!(target(Method::PATCH, path), object);
        let path = "/apis/platform.example.com/v1alpha1/namespaces/a/egresspolicies/web/status";
        let status = expect(Verb::Update, group, "egresspolicies/status", (Some("a"), Some("web")));
        assert_eq!(target(Method::PUT, path), status);
    }

    #[test]
    fn a_namespace_is_an_object_of_its_own() {
        let one = expect(Verb::Get, "", "namespaces", (None, Some("a")));
        assert_eq!(target(Method::GET, "/api/v1/namespaces/a"), one);
        let finalize = expect(Verb::Update, "", "namespaces/finalize", (None, Some("a")));
        assert_eq!(target(Method::PUT, "/api/v1/namespaces/a/finalize"), finalize);
        let event = expect(Verb::Create, "", "events", (Some("a"), None));
        assert_eq!(target(Method::POST, "/api/v1/namespaces/a/events"), event);
    }

    #[test]
    fn what_is_no_resource_is_a_path() {
        for path in ["/version", "/readyz/etcd", "/api/v1", "/apis/apps/v1"] {
            let expected = expect(Verb::Get, "", path, (None, None));
            assert_eq!(target(Method::GET, path), expected);
        }
    }
}
