//! A tenant that writes a far newer epoch onto the NetworkPolicies of its namespace: the fence looks at the controller's
//! writes only, so nothing keeps it from that.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result, ensure};
use egress_domain::api::{EgressPolicy, FENCE_ANNOTATION};
use egress_testbed::eventually;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use loadtest::handover::audit;
use loadtest::handover::work::{self, Changed};
use serde_json::json;

use crate::bed::{holder, key, name, right, small};
use crate::changes::{change_answer, change_spec};
use crate::tenant::tenant;

/// Long enough that nobody lapses on a slow machine: its epoch would be another one.
const LEASE: u32 = 15;
/// Its answer will change.
const ANSWER: usize = 0;
/// Its spec will change.
const SPEC: usize = 1;
/// Both, one after the other, with a second forgery between them.
const TWICE: usize = 2;
/// Nothing happens to it.
const UNTOUCHED: usize = 3;
/// It will be deleted.
const DELETED: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_epoch_pins_no_network_policy() -> Result<()> {
    let bed = small(1, 1, 5, LEASE).await?;
    let namespace = work::namespace(0);
    let client = tenant(&bed, &namespace).await?;
    let stored = Api::<NetworkPolicy>::namespaced(client.clone(), &namespace);
    let (_, shard, epoch) = holder(&bed, ANSWER).context("a holder")?;
    let stamp = format!("{shard}/{epoch}");
    let forge = async |policy: usize, forged: &str| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {FENCE_ANNOTATION: forged}}}));
        stored.patch(&name(policy), &PatchParams::default(), &patch).await
    };
    let stamped = async |policy: usize| -> Result<String> {
        let object = stored.get(&name(policy)).await?;
        Ok(object.annotations().get(FENCE_ANNOTATION).cloned().unwrap_or_default())
    };

    let before = bed.seen().await?;
    // The next one, the last one there is, and those of other shards.
    let next = format!("{shard}/{}", epoch + 1);
    let last = format!("{shard}/999999999999999999");
    let (other, unheard) = (format!("{}/999999999999999999", (shard.0 + 1) % 256), "65535/999999999999999999");
    let forged = [(ANSWER, &*next), (SPEC, &*last), (TWICE, &*other), (UNTOUCHED, &*last), (DELETED, unheard)];
    for (policy, forged) in forged {
        forge(policy, forged).await?;
    }
    // The watch has long delivered them, and a forgery alone is no reason to write.
    tokio::time::sleep(bed.lease / 5).await;
    for (policy, forged) in forged {
        assert_eq!(stamped(policy).await?, forged, "policy {policy}");
    }

    let mut changed = Changed::default();
    change_answer(&bed, &mut changed, ANSWER, 1);
    change_spec(&bed, &mut changed, SPEC, 1).await?;
    change_answer(&bed, &mut changed, TWICE, 1);
    right(&bed, &changed).await?;
    forge(TWICE, &last).await?;
    change_spec(&bed, &mut changed, TWICE, 2).await?;
    right(&bed, &changed).await?;
    for policy in [ANSWER, SPEC, TWICE] {
        assert_eq!(stamped(policy).await?, stamp, "policy {policy} has the stamp of its holder again");
    }
    assert_eq!(stamped(UNTOUCHED).await?, last);

    // The forgery, the stamp, and the change itself; a second time where it was forged twice.
    bed.seen().await?;
    let writes = bed.judge.writes_since(before);
    let expected = [(ANSWER, 3), (SPEC, 3), (TWICE, 6), (UNTOUCHED, 1), (DELETED, 1)];
    assert_eq!(writes, HashMap::from(expected.map(|(policy, count)| (key(&bed, policy), count))));

    let policies = Api::<EgressPolicy>::namespaced(client, &namespace);
    policies.delete(&format!("policy-{DELETED}"), &DeleteParams::default()).await?;
    let gone = async || {
        ensure!(stored.get_opt(&name(DELETED)).await?.is_none(), "it is still there");
        Ok(())
    };
    eventually(bed.patience(4), gone).await?;

    // It was the fence that made the controller stamp them anew.
    let audit = audit::read(&bed.audit_log)?;
    let refused: BTreeSet<String> = audit.outstamped.iter().cloned().collect();
    assert_eq!(refused, BTreeSet::from([ANSWER, SPEC, TWICE].map(name)));
    assert!(bed.judge.by_strangers(&audit).is_empty());
    assert_eq!(holder(&bed, ANSWER).map(|(_, _, now)| now), Some(epoch), "nothing was taken over");
    Ok(())
}
