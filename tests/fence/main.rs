//! The fence in the API server, as deploy/ installs it: whose writes it admits. On a real API server.

mod bed;
mod missing;
mod objects;
mod rights;
mod table;

use anyhow::Result;
use bed::{Bed, OF_A, OF_B, SOON, tables};
use egress_domain::api::{EgressPolicy, FENCE_ANNOTATION, FenceRefusal, SHARD_TABLE};
use egress_testbed::eventually;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use objects::{apply, delete, entries, network_policy, policy, refused, restamp};
use serde_json::json;

#[tokio::test]
async fn the_holder_creates_applies_patches_and_deletes_with_its_stamp() -> Result<()> {
    let bed = Bed::shared().await;
    let namespace = bed.control_plane.unique_namespace("app").await?;
    for (client, stamp) in [(bed.a(), OF_A), (bed.b(), OF_B)] {
        let api = Api::<NetworkPolicy>::namespaced(client, &namespace);
        let created = api.create(&PostParams::default(), &network_policy("egress-web", 1, Some(stamp))).await?;
        let mut wanted = network_policy("egress-web", 2, Some(stamp));
        wanted.metadata.uid = created.uid();
        let applied = apply(&api, &wanted).await?;
        assert_eq!(applied.spec, wanted.spec);
        let stamped = restamp(&api, &applied, stamp).await?;
        delete(&api, &stamped).await?;
        assert!(api.get_opt("egress-web").await?.is_none());
    }
    Ok(())
}

#[tokio::test]
async fn any_other_stamp_is_refused_for_each_kind_of_write() -> Result<()> {
    let bed = Bed::shared().await;
    let namespace = bed.control_plane.unique_namespace("app").await?;
    let api = Api::<NetworkPolicy>::namespaced(bed.a(), &namespace);
    let stored = api.create(&PostParams::default(), &network_policy("egress-web", 1, Some(OF_A))).await?;
    // Older, newer, another's, of a free shard, of no shard, and what is no stamp.
    let wrong = ["1/9", "1/11", OF_B, "3/30", "7/10", "", "1", "1/", "/10", "01/10", "1/10/10", "1/10 ", "1\n/10"];
    for stamp in wrong {
        let create = api.create(&PostParams::default(), &network_policy("egress-new", 1, Some(stamp))).await;
        refused(create, FenceRefusal::Stale, &format!("create with {stamp:?}"));
        let applied = apply(&api, &network_policy("egress-web", 2, Some(stamp))).await;
        refused(applied, FenceRefusal::Stale, &format!("apply with {stamp:?}"));
        let created = apply(&api, &network_policy("egress-new", 2, Some(stamp))).await;
        refused(created, FenceRefusal::Stale, &format!("creating apply with {stamp:?}"));
        refused(restamp(&api, &stored, stamp).await, FenceRefusal::Stale, &format!("patch with {stamp:?}"));
    }
    refused(
        api.create(&PostParams::default(), &network_policy("egress-new", 1, None)).await,
        FenceRefusal::Stale,
        "none",
    );
    let bare = json!({"metadata": {"annotations": {FENCE_ANNOTATION: null}}});
    let bare = api.patch("egress-web", &PatchParams::default(), &Patch::Merge(bare)).await;
    refused(bare, FenceRefusal::Stale, "patch that removes the stamp");
    assert_eq!(api.get("egress-web").await?, stored, "nothing of it was stored");

    // A delete is judged by what is stored.
    for stamp in [None, Some("1/9"), Some(OF_B)] {
        let object = network_policy("egress-old", 1, stamp);
        let object = apply(&bed.network_policies(&namespace), &object).await?;
        refused(delete(&api, &object).await, FenceRefusal::Stale, &format!("delete of {stamp:?}"));
    }
    Ok(())
}

#[tokio::test]
async fn a_stamp_is_worth_nothing_without_the_token_of_its_pod() -> Result<()> {
    let bed = Bed::shared().await;
    let namespace = bed.control_plane.unique_namespace("app").await?;
    let stored = apply(&Api::namespaced(bed.a(), &namespace), &network_policy("egress-web", 1, Some(OF_A))).await?;
    let others = [("another pod", bed.b()), ("no pod", bed.unbound().await?), ("impersonation", bed.impersonating()?)];
    for (who, client) in others {
        let api = Api::<NetworkPolicy>::namespaced(client, &namespace);
        // That of a free shard names no pod either.
        for stamp in [OF_A, "3/30", "1/9"] {
            let created = api.create(&PostParams::default(), &network_policy("egress-new", 1, Some(stamp))).await;
            refused(created, FenceRefusal::Stale, &format!("create by {who} with {stamp}"));
            let applied = apply(&api, &network_policy("egress-web", 2, Some(stamp))).await;
            refused(applied, FenceRefusal::Stale, &format!("apply by {who} with {stamp}"));
        }
        refused(delete(&api, &stored).await, FenceRefusal::Stale, &format!("delete by {who}"));
    }
    Ok(())
}

#[tokio::test]
async fn a_shard_that_moves_takes_the_right_to_write_with_it() -> Result<()> {
    let bed = Bed::shared().await;
    let namespace = bed.control_plane.unique_namespace("app").await?;
    let (a, b) = (Api::namespaced(bed.a(), &namespace), Api::namespaced(bed.b(), &namespace));
    let stored = apply(&a, &network_policy("egress-web", 1, Some("4/40"))).await?;
    let mut table = tables(bed.b()).get(SHARD_TABLE).await?;
    table.spec.shards.extend(entries([(4, "b/41")]));
    tables(bed.b()).replace(SHARD_TABLE, &PostParams::default(), &table).await?;

    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let probe = network_policy("egress-probe", 1, Some("4/41"));
    eventually(SOON, async || Ok(b.create(&dry_run, &probe).await?)).await?;
    refused(apply(&a, &network_policy("egress-web", 2, Some("4/40"))).await, FenceRefusal::Stale, "the former holder");
    refused(delete(&a, &stored).await, FenceRefusal::Stale, "delete by the former holder");
    refused(delete(&b, &stored).await, FenceRefusal::Stale, "delete of what is not yet stamped anew");
    let stamped = restamp(&b, &stored, "4/41").await?;
    assert_eq!(stamped.metadata.generation, stored.metadata.generation);
    delete(&b, &stamped).await?;
    Ok(())
}

#[tokio::test]
async fn a_forged_epoch_keeps_the_holder_from_the_spec_until_it_stamps_anew() -> Result<()> {
    let bed = Bed::shared().await;
    let namespace = bed.control_plane.unique_namespace("app").await?;
    let api = Api::<NetworkPolicy>::namespaced(bed.a(), &namespace);
    let tenant = bed.network_policies(&namespace);
    let forge = async |stamp: &str| {
        let patch = json!({"metadata": {"annotations": {FENCE_ANNOTATION: stamp}}, "spec": {"egress": [{}]}});
        tenant.patch("egress-web", &PatchParams::default(), &Patch::Merge(patch)).await
    };
    let wanted = network_policy("egress-web", 1, Some(OF_A));
    apply(&api, &wanted).await?;
    for forged in ["1/11", "7/999999999999999999"] {
        let pinned = forge(forged).await?;
        refused(apply(&api, &wanted).await, FenceRefusal::NewerEpoch, &format!("apply over {forged}"));
        refused(restamp(&api, &pinned, "1/9").await, FenceRefusal::Stale, "another stamp");
        let stamped = restamp(&api, &pinned, OF_A).await?;
        assert_eq!(stamped.spec, pinned.spec);
        assert_eq!(apply(&api, &wanted).await?.spec, wanted.spec);
    }
    // An older epoch is no obstacle, and what is no stamp neither.
    for forged in ["9/9", "", "1/", "x/y", "1/9999999999999999999", "1/11/1"] {
        forge(forged).await?;
        assert_eq!(apply(&api, &wanted).await?.spec, wanted.spec, "{forged}");
    }
    Ok(())
}

#[tokio::test]
async fn a_status_needs_the_stamp_too() -> Result<()> {
    let bed = Bed::shared().await;
    let namespace = bed.control_plane.unique_namespace("app").await?;
    bed.policies(&namespace).create(&PostParams::default(), &policy()).await?;
    let written = bed.patch_status(bed.a(), &namespace, Some(OF_A)).await?;
    assert_eq!(written.status.and_then(|status| status.fence).as_deref(), Some(OF_A));
    for stamp in [None, Some("1/9"), Some(OF_B), Some("3/30"), Some("1"), Some("")] {
        let outcome = bed.patch_status(bed.a(), &namespace, stamp).await;
        refused(outcome, FenceRefusal::Stale, &format!("status with {stamp:?}"));
    }
    for client in [bed.b(), bed.unbound().await?, bed.impersonating()?] {
        refused(bed.patch_status(client, &namespace, Some(OF_A)).await, FenceRefusal::Stale, "status by another");
    }
    bed.patch_status(bed.b(), &namespace, Some(OF_B)).await?;
    bed.patch_status(bed.control_plane.client(), &namespace, None).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_else_and_nothing_else_is_fenced() -> Result<()> {
    let bed = Bed::shared().await;
    let namespace = bed.control_plane.unique_namespace("app").await?;
    apply(&Api::namespaced(bed.a(), &namespace), &network_policy("egress-web", 1, Some(OF_A))).await?;
    // A tenant, also on objects of ours and with any annotation.
    let tenant = bed.network_policies(&namespace);
    apply(&tenant, &network_policy("egress-web", 2, None)).await?;
    apply(&tenant, &network_policy("egress-web", 3, Some("nonsense"))).await?;
    let stored = tenant.create(&PostParams::default(), &network_policy("own", 1, None)).await?;
    delete(&tenant, &stored).await?;
    tenant.delete("egress-web", &DeleteParams::default()).await?;
    // The metadata of a policy, which the controller clears of the Python operator's marks.
    bed.policies(&namespace).create(&PostParams::default(), &policy()).await?;
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"kopf.zalando.org/last": null}}}));
    Api::<EgressPolicy>::namespaced(bed.a(), &namespace).patch("web", &PatchParams::default(), &patch).await?;
    Ok(())
}
