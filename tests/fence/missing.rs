//! A fence without its table.

use anyhow::{Result, ensure};
use egress_controller::cli::crd;
use egress_domain::api::{EgressShardTable, FenceRefusal, SHARD_TABLE};
use egress_testbed::eventually;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, CustomResourceExt as _};

use crate::bed::{Bed, OF_A, SOON, tables};
use crate::objects::{apply, network_policy, policy, refusal, table};

#[tokio::test]
async fn without_a_table_our_objects_can_only_be_deleted_and_those_of_tenants_are_free() -> Result<()> {
    // A control plane of its own: it takes the table away.
    let bed = Bed::start().await?;
    let namespace = bed.control_plane.unique_namespace("app").await?;
    let (a, tenant) = (Api::namespaced(bed.a(), &namespace), bed.network_policies(&namespace));
    bed.policies(&namespace).create(&PostParams::default(), &policy()).await?;
    let mut own = network_policy("own", 1, None);
    own.metadata.labels = None;
    tenant.create(&PostParams::default(), &own).await?;
    for name in ["egress-web", "egress-api", "egress-db"] {
        apply(&a, &network_policy(name, 1, Some(OF_A))).await?;
    }
    let tables = tables(bed.control_plane.client());
    let definitions = Api::<CustomResourceDefinition>::all(bed.control_plane.client());
    let no_table = async || {
        for outcome in [
            apply(&a, &network_policy("egress-web", 2, Some(OF_A))).await,
            a.create(&PostParams::default(), &network_policy("egress-new", 1, Some(OF_A))).await,
        ] {
            ensure!(refusal(&outcome) == Some(FenceRefusal::Stale), "{outcome:?}");
        }
        let status = bed.patch_status(bed.a(), &namespace, Some(OF_A)).await;
        ensure!(refusal(&status) == Some(FenceRefusal::Stale), "{status:?}");
        Ok(())
    };
    let tenants_are_free = async |of_ours: &str| -> Result<()> {
        let mut changed = network_policy("own", rand::random(), None);
        changed.metadata.labels = None;
        apply(&tenant, &changed).await?;
        // As the namespace's own deletion and the garbage collection do.
        tenant.delete(of_ours, &DeleteParams::default()).await?;
        Ok(())
    };
    tables.delete(SHARD_TABLE, &DeleteParams::default()).await?;
    eventually(SOON, no_table).await?;
    tenants_are_free("egress-api").await?;
    definitions.delete(EgressShardTable::crd_name(), &DeleteParams::default()).await?;
    let gone = async || {
        ensure!(definitions.get_opt(EgressShardTable::crd_name()).await?.is_none(), "it still exists");
        Ok(())
    };
    eventually(SOON, gone).await?;
    no_table().await?;
    tenants_are_free("egress-db").await?;

    // All is well again with a table.
    bed.control_plane.apply_crd(&crd::shard_table_yaml()?).await?;
    tables.create(&PostParams::default(), &EgressShardTable::new(SHARD_TABLE, table())).await?;
    eventually(SOON, async || Ok(apply(&a, &network_policy("egress-web", 3, Some(OF_A))).await?)).await?;
    Ok(())
}
