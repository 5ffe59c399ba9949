//! What the controller tells: log, pages, and the columns of `kubectl get`.

use anyhow::ensure;
use axum::http::Request;
use egress_testbed::eventually;
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, hosts, ips};

/// The log events of policy updates, without the time.
fn updates(world: &World) -> Vec<Value> {
    let of_updates = |line: &Value| line["event"] == "egress-policy-update";
    let mut lines: Vec<Value> = world.controller().log().into_iter().filter(of_updates).collect();
    for line in &mut lines {
        let fields = line.as_object_mut().expect("an object");
        assert!(fields.remove("timestamp").is_some_and(|time| time.is_string()));
    }
    lines
}

async fn updates_are(world: &World, expected: &[Value]) {
    let check = async || {
        let found = updates(world);
        ensure!(found == expected, "{found:?}");
        Ok(())
    };
    eventually(PATIENCE, check).await.expect("the log has these events");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_operators_log_event_tells_each_change_with_all_addresses_and_namespaces() {
    let world = World::new().await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1", "2001:db8::1"]), 1);
    let namespace = world.namespace("app").await;
    let spec = json!({
        "destinations": [{"hostname": "a.example"}, {"ip": "8.8.8.8"}, {"cidr": "198.51.100.0/24"}, {"namespace": {"name": "shared"}}],
        "namespaces": ["backup-tools"]
    });
    world.create_policy(&namespace, "web", spec).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    let event = |ips: &[&str], namespaces: &[&str]| {
        json!({
            "level": "INFO", "event": "egress-policy-update", "policy": "web", "namespace": namespace,
            "ips": ips, "namespaces": namespaces
        })
    };
    let first = event(&["192.0.2.1", "198.51.100.0/24", "2001:db8::1", "8.8.8.8"], &["backup-tools", "shared"]);
    updates_are(&world, std::slice::from_ref(&first)).await;

    world.dns.set_host("a.example", &ips(&["192.0.2.2"]), 1);
    let second =
        event(&["192.0.2.1", "192.0.2.2", "198.51.100.0/24", "2001:db8::1", "8.8.8.8"], &["backup-tools", "shared"]);
    updates_are(&world, &[first.clone(), second.clone()]).await;

    world.replace_spec(&namespace, "web", json!({"destinations": [{"ip": "8.8.8.8"}]})).await;
    updates_are(&world, &[first, second, event(&["8.8.8.8"], &[])]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_get_shows_ready_hosts_addresses_and_age() {
    let world = World::new().await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1", "2001:db8::1"]), 60);
    world.dns.set_host("b.example", &ips(&["192.0.2.2"]), 60);
    let namespace = world.namespace("app").await;
    world.create_policy(&namespace, "web", hosts(&["a.example", "b.example"])).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    let request = Request::get(format!("/apis/platform.example.com/v1alpha1/namespaces/{namespace}/egresspolicies"))
        .header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
        .body(Vec::new());
    let table: Value = world.client.request(request.expect("a request")).await.expect("a table");
    let columns = table["columnDefinitions"].as_array().expect("columns");
    let columns: Vec<(&str, i64)> = columns
        .iter()
        .map(|column| (column["name"].as_str().unwrap_or_default(), column["priority"].as_i64().unwrap_or(-1)))
        .collect();
    assert_eq!(
        columns,
        [("Name", 0), ("Ready", 0), ("Hosts", 0), ("Addresses", 0), ("Age", 0), ("Mode", 1), ("Reason", 1)]
    );
    let rows = table["rows"].as_array().expect("rows");
    let [row] = &rows[..] else { panic!("one policy, not {rows:?}") };
    let mut cells = row["cells"].as_array().expect("cells").clone();
    let age = cells.remove(4);
    assert!(age.as_str().is_some_and(|age| age.ends_with('s')), "{age}");
    assert_eq!(json!(cells), json!(["web", "True", 2, 3, "Enforce", "Ready"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_tell_health_metrics_and_state() {
    let world = World::new().await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 60);
    let namespace = world.namespace("app").await;
    for name in ["web", "db"] {
        world.create_policy(&namespace, name, hosts(&["a.example"])).await;
        world.condition(&namespace, name, "Ready", "True", "Ready").await;
    }
    let controller = world.controller();
    for page in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(controller.get(page).await.expect("a page"), (200, "OK".to_owned()), "{page}");
    }
    assert_eq!(controller.metric("egress_policy_actors", "").await, 2.0);
    assert_eq!(
        controller.metric("egress_resolver_lookups_total", "").await,
        2.0,
        "two policies, one host, two families"
    );
    // Two allow-policies, one default deny, whose answer may still be under way as those of the statuses may.
    controller.metric_is("egress_writer_writes_total", "kind=\"create\"", |creates| creates == 3.0).await;
    let (code, metrics) = controller.get("/metrics").await.expect("metrics");
    assert_eq!(code, 200);
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");

    let (code, state) = controller.get("/debug/state").await.expect("the state");
    assert_eq!(code, 200);
    let state: Value = serde_json::from_str(&state).expect("JSON");
    let synced = json!({"policies": true, "network_policies": true, "denies": true, "namespaces": true});
    let router =
        json!({"policies": 2, "running": 2, "namespaces": 1, "network_policies": 2, "shards": 256, "synced": synced});
    assert_eq!(state["router"], router);
    assert_eq!((&state["resolver"]["names"], &state["resolver"]["subscribers"]), (&json!(1), &json!(2)));
    assert_eq!(state["writer"]["unreachable"], json!(false));
    let shards = &state["shards"];
    assert_eq!(
        (&shards["role"], &shards["fence_active"], &shards["unowned"]),
        (&json!("Member"), &json!(true), &json!(0))
    );
    assert_eq!(shards["active"].as_array().map(Vec::len), Some(256));
    assert_eq!(controller.metric("egress_shards_owned", "").await, 256.0);
}
