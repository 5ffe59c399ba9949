//! A namespace that the next holder's watch has not shown yet.

use anyhow::{Context as _, Result, ensure};
use egress_domain::api::EgressPolicy;
use egress_testbed::eventually;
use egress_testbed::proxy::{Action, Rule, Verb, WatchEnd};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::PostParams;
use loadtest::fill::create_namespaces;
use loadtest::handover::bed::Bed;
use loadtest::handover::work;

use crate::bed::{ended, holder_of_namespace, small};
use crate::changes::LEASE;

/// A namespace that does not exist yet and whose shard this replica holds.
fn free_name(bed: &Bed, replica: usize) -> Result<String> {
    let pod = &bed.replicas[replica].pod;
    let is_held = |name: &String| holder_of_namespace(bed, name).is_some_and(|(holder, ..)| holder == *pod);
    // Many times more names than it takes.
    (0..1_000).map(|number| format!("late-{number}")).find(is_held).context("a name")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_of_a_namespace_that_the_next_holder_has_not_been_shown_is_taken_over() -> Result<()> {
    let bed = small(2, 4, 4, LEASE).await?;
    let (leaver, next) = (0, 1);
    // From here on no namespace is shown to the next holder.
    let stall = Action::EndWatch { after: 0, how: WatchEnd::Stall };
    let stalled = bed.proxy(next).inject(Rule::new(stall).verb(Verb::Watch).resource("namespaces"));
    ensure!(bed.proxy(next).cut_watches("namespaces") > 0, "it watches namespaces");
    bed.proxy(next).wait_for_hits(stalled, 1, bed.patience(4)).await?;

    let namespace = free_name(&bed, leaver)?;
    create_namespaces(&bed.client, std::slice::from_ref(&namespace)).await?;
    let mut policy = work::policy(0, bed.namespaces, 0, None);
    policy.metadata.namespace = Some(namespace.clone());
    Api::<EgressPolicy>::namespaced(bed.client.clone(), &namespace).create(&PostParams::default(), &policy).await?;
    let allows = async |address: &str| {
        let api = Api::<NetworkPolicy>::namespaced(bed.client.clone(), &namespace);
        let object = api.get_opt("egress-policy-0").await?.context("there is no NetworkPolicy")?;
        ensure!(serde_json::to_string(&object.spec)?.contains(address), "{address} is not allowed");
        anyhow::Ok(())
    };
    let before = work::address(0, 0).to_string();
    eventually(bed.patience(4), async || allows(&before).await).await?;

    bed.replicas[leaver].signal("TERM")?;
    ended(&bed, &bed.replicas[leaver]).await?;
    let after = work::address(0, 1);
    bed.dns.set_host(&work::host(0), &[after], bed.pace.ttl);
    let after = after.to_string();
    eventually(bed.patience(8), async || allows(&after).await).await
}
