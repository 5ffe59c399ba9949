//! What the API server says it was asked: its own counters, and those of a replica.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::Client;

/// Verb, resource with its subresource, status code.
pub type Kind = (String, String, String);

/// Requests so far.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// By kind.
    pub counts: BTreeMap<Kind, u64>,
    /// Bytes of watch events sent, all watches together.
    pub watched: u64,
}

impl Requests {
    /// Reads the API server's metrics.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read(client: &Client) -> Result<Self> {
        let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let mut requests = Self::default();
        for (name, labels, value) in text.lines().filter_map(series) {
            if name == "apiserver_request_total" {
                let label = |name: &str| label(labels, name).to_owned();
                let mut resource = match (label("resource"), label("subresource")) {
                    (resource, sub) if sub.is_empty() => resource,
                    (resource, sub) => format!("{resource}/{sub}"),
                };
                // It changes nothing: the controller looks for the fence that way.
                if !label("dry_run").is_empty() {
                    resource.push_str(" (dry run)");
                }
                *requests.counts.entry((label("verb"), resource, label("code"))).or_default() += value as u64;
            } else if name == "apiserver_watch_events_sizes_sum" {
                requests.watched += value as u64;
            }
        }
        Ok(requests)
    }

    /// What was asked since an earlier reading.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let earlier = |kind: &Kind| before.counts.get(kind).copied().unwrap_or_default();
        let counts = self.counts.iter().map(|(kind, count)| (kind.clone(), count.saturating_sub(earlier(kind))));
        let counts = counts.filter(|(_, count)| *count > 0).collect();
        Self { counts, watched: self.watched.saturating_sub(before.watched) }
    }

    /// Requests of a verb (any if empty) for a resource.
    #[must_use]
    pub fn of(&self, verb: &str, resource: &str) -> u64 {
        let matches = |kind: &Kind| (verb.is_empty() || kind.0 == verb) && kind.1 == resource;
        self.counts.iter().filter(|(kind, _)| matches(kind)).map(|(_, count)| count).sum()
    }

    /// Requests of a verb for a resource that were answered with a status code.
    #[must_use]
    pub fn with_code(&self, verb: &str, resource: &str, code: &str) -> u64 {
        let kind = (verb.to_owned(), resource.to_owned(), code.to_owned());
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// Requests that were answered with a status code.
    #[must_use]
    pub fn answered(&self, code: &str) -> u64 {
        self.counts.iter().filter(|((_, _, found), _)| found == code).map(|(_, count)| count).sum()
    }
}

/// The value of a metric of a replica, its series added up.
#[must_use]
pub fn metric(page: &str, metric: &str) -> f64 {
    page.lines().filter_map(series).filter(|(name, _, _)| *name == metric).map(|(_, _, value)| value).sum()
}

/// The same of the series that have a label of this name and value.
#[must_use]
pub fn metric_of(page: &str, metric: &str, (name, value): (&str, &str)) -> f64 {
    let wanted =
        page.lines().filter_map(series).filter(|(found, labels, _)| *found == metric && label(labels, name) == value);
    wanted.map(|(_, _, value)| value).sum()
}

/// The upper bound of the bucket of a histogram in which a quantile lies; none if nothing was observed.
#[must_use]
pub fn quantile(page: &str, histogram: &str, q: f64) -> Option<f64> {
    let name = format!("{histogram}_bucket");
    let buckets = page.lines().filter_map(series).filter(|(found, _, _)| *found == name);
    let bound = |labels: &str| match label(labels, "le") {
        "+Inf" => Some(f64::INFINITY),
        le => le.parse().ok(),
    };
    let buckets: Vec<(f64, f64)> = buckets.filter_map(|(_, labels, count)| Some((bound(labels)?, count))).collect();
    let total = buckets.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    let within = |(_, count): &&(f64, f64)| total > 0.0 && *count >= q * total;
    buckets.iter().filter(within).map(|(bound, _)| *bound).reduce(f64::min)
}

/// Name, labels and value of a line of the text format.
fn series(line: &str) -> Option<(&str, &str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some((name, labels, value.parse().ok()?))
}

fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let start = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
    start.map_or("", |value| value.trim_end_matches('}').trim_end_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_by_its_labels() {
        let line = r#"apiserver_request_total{code="201",resource="networkpolicies",subresource="",verb="POST"} 12"#;
        let (name, labels, value) = series(line).expect("a series");
        assert_eq!((name, value), ("apiserver_request_total", 12.0));
        assert_eq!([label(labels, "verb"), label(labels, "code"), label(labels, "subresource")], ["POST", "201", ""]);
    }

    #[test]
    fn a_quantile_is_the_bound_of_the_bucket_that_reaches_it() {
        let page = "late_bucket{le=\"0.1\"} 98\nlate_bucket{le=\"0.5\"} 99\nlate_bucket{le=\"+Inf\"} 100\n";
        assert_eq!(quantile(page, "late", 0.98), Some(0.1));
        assert_eq!(quantile(page, "late", 0.99), Some(0.5));
        assert_eq!(quantile(page, "late", 1.0), Some(f64::INFINITY));
        assert_eq!(quantile("late_bucket{le=\"+Inf\"} 0\n", "late", 0.99), None);
    }

    #[test]
    fn a_metric_is_the_sum_of_its_series_and_of_no_other() {
        let page = "# TYPE writes counter\nwrites{a=\"1\"} 2\nwrites{a=\"2\"} 3\nwrites_total 9\n";
        assert!((metric(page, "writes") - 5.0).abs() < f64::EPSILON);
        assert!((metric_of(page, "writes", ("a", "2")) - 3.0).abs() < f64::EPSILON);
    }
}
