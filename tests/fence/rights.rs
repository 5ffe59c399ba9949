//! The account's other rights, and how the API server queues it.

use anyhow::{Result, ensure};
use egress_domain::api::{EgressShardTable, LEASES_FLOW_SCHEMA, SHARD_TABLE};
use egress_testbed::eventually;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::Request;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::bed::{ACCOUNT, Bed, SOON, tables};
use crate::objects::table;

#[tokio::test]
async fn the_account_may_do_with_leases_and_table_what_replicas_do_and_no_more() -> Result<()> {
    let bed = Bed::shared().await;
    let leases = |namespace: &str| Api::<Lease>::namespaced(bed.b(), namespace);
    let lease: Lease = serde_json::from_value(json!({"metadata": {"name": "b-1"}, "spec": {"holderIdentity": "1.0"}}))?;
    let created = leases(ACCOUNT).create(&PostParams::default(), &lease).await?;
    let renewal = json!({"spec": {"holderIdentity": "1.1"}});
    let renewed = leases(ACCOUNT).patch("b-1", &PatchParams::default(), &Patch::Merge(renewal)).await?;
    assert_ne!(renewed.resource_version(), created.resource_version());
    leases(ACCOUNT).get("b-1").await?;
    leases(ACCOUNT).list(&Default::default()).await?;
    leases(ACCOUNT).delete("b-1", &DeleteParams::default()).await?;
    tables(bed.b()).list(&Default::default()).await?;

    let forbidden = |code: Option<u16>, what: &str| assert_eq!(code, Some(403), "{what}");
    let code = |error: kube::Error| if let kube::Error::Api(status) = error { Some(status.code) } else { None };
    forbidden(leases("default").get("b-1").await.err().and_then(code), "a lease elsewhere");
    forbidden(leases("default").list(&Default::default()).await.err().and_then(code), "leases elsewhere");
    let other = EgressShardTable::new("other", table());
    let other = tables(bed.control_plane.client()).create(&PostParams::default(), &other).await?;
    let replaced = tables(bed.b()).replace("other", &PostParams::default(), &other).await;
    forbidden(replaced.err().and_then(code), "another table");
    let deleted = tables(bed.b()).delete(SHARD_TABLE, &DeleteParams { dry_run: true, ..Default::default() }).await;
    forbidden(deleted.err().and_then(code), "deleting the table");
    Ok(())
}

#[tokio::test]
async fn leases_and_table_of_the_account_have_the_priority_of_leader_elections() -> Result<()> {
    let bed = Bed::shared().await;
    let admin = bed.control_plane.client();
    let schema = Api::<FlowSchema>::all(admin.clone()).get(LEASES_FLOW_SCHEMA).await?.uid();
    let level = Api::<PriorityLevelConfiguration>::all(admin.clone()).get("leader-election").await?.uid();
    let expected = (schema, level);
    let classified = async |client: Client, path: String| -> Result<(Option<String>, Option<String>)> {
        let request = Request::new(path).list(&Default::default())?;
        let answer = client.send(request.map(Body::from)).await?;
        ensure!(answer.status().is_success(), "{answer:?}");
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((header("x-kubernetes-pf-flowschema-uid"), header("x-kubernetes-pf-prioritylevel-uid")))
    };
    let (leases, table) = (Lease::url_path(&(), Some(ACCOUNT)), EgressShardTable::url_path(&(), None));
    eventually(SOON, async || {
        for path in [&leases, &table] {
            ensure!(classified(bed.a(), path.clone()).await? == expected, "{path}");
        }
        Ok(())
    })
    .await?;
    let network_policies = NetworkPolicy::url_path(&(), None);
    assert_ne!(classified(bed.a(), network_policies).await?, expected);
    assert_ne!(classified(admin, leases).await?, expected);
    Ok(())
}
