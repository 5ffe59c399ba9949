//! The control plane itself, with real servers.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_testbed::control_plane::{AuditLevel, Component, Environment, Trust};
use egress_testbed::{ControlPlane, eventually};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Bounds what takes a second at most on an idle machine.
const SOON: Duration = Duration::from_secs(20);
/// Bounds a collection that a restart makes quick: without the restart it takes 41 s.
const AFTER_RESTART: Duration = Duration::from_secs(38);
/// Bounds namespace deletion and garbage collection, which Kubernetes itself delays by 5 s and more.
const COLLECTED: Duration = Duration::from_secs(90);
/// Told to the copy of this binary that holds a control plane until it is killed.
const HOLD: &str = "EGRESS_TESTBED_HOLD";
const HELD: &str = "held:";

fn config_map(name: &str, owner: Option<OwnerReference>) -> ConfigMap {
    let owner_references = owner.map(|owner| vec![owner]);
    let metadata = ObjectMeta { name: Some(name.to_owned()), owner_references, ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

fn definition(plural: &str, kind: &str) -> String {
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.testbed.example.com}}\n\
         spec:\n  group: testbed.example.com\n  scope: Namespaced\n  names: {{plural: {plural}, kind: {kind}}}\n  versions:\n  \
         - {{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object}}}}}}\n"
    )
}

fn is_gone<K>(outcome: kube::Result<Option<K>>) -> Result<()> {
    ensure!(outcome?.is_none(), "still there");
    Ok(())
}

/// Whether a process has ended; one that nobody reaped counts.
fn has_ended(id: u32) -> bool {
    std::fs::read(format!("/proc/{id}/cmdline")).map_or(true, |command_line| command_line.is_empty())
}

async fn everything_has_ended(ids: &[u32], folder: &Path) -> Result<()> {
    eventually(SOON, || async {
        let left: Vec<_> = ids.iter().filter(|id| !has_ended(**id)).collect();
        ensure!(left.is_empty(), "processes {left:?} run");
        ensure!(!folder.exists(), "{} is there", folder.display());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_namespace_can_be_created_and_read() -> Result<()> {
    let control_plane = ControlPlane::shared().await;
    let name = control_plane.unique_namespace("read").await?;
    let read = Api::<Namespace>::all(control_plane.client()).get(&name).await?;
    assert_eq!(read.name_any(), name);
    Ok(())
}

#[tokio::test]
async fn the_shared_one_serves_a_test_with_another_runtime() -> Result<()> {
    ControlPlane::shared().await.unique_namespace("other").await.map(drop)
}

#[tokio::test]
async fn two_control_planes_run_at_once() -> Result<()> {
    let (one, two) = tokio::try_join!(ControlPlane::builder().start(), ControlPlane::builder().start())?;
    assert_ne!(one.url(), two.url());
    one.create_namespace("only-in-one").await?;
    let absent = Api::<Namespace>::all(two.client()).get_opt("only-in-one").await?;
    assert!(absent.is_none());
    Ok(())
}

#[tokio::test]
async fn a_token_bound_to_a_pod_carries_the_pod_name() -> Result<()> {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.unique_namespace("token").await?;
    let token = control_plane.pod_token(&namespace, "replica-0", "controller").await?;
    let again = control_plane.pod_token(&namespace, "replica-0", "controller").await;
    again.context("the second token of a pod")?;

    let reviews = Api::<SelfSubjectReview>::all(control_plane.client_for_token(&token));
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info).context("a review without a user")?;
    assert_eq!(user.username, Some(format!("system:serviceaccount:{namespace}:controller")));
    let extra = user.extra.context("a user without extra")?;
    assert_eq!(extra.get("authentication.kubernetes.io/pod-name"), Some(&vec!["replica-0".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn a_kubeconfig_opens_the_api() -> Result<()> {
    let control_plane = ControlPlane::shared().await;
    for text in [
        control_plane.kubeconfig(),
        control_plane.kubeconfig_for(control_plane.url(), control_plane.admin_token(), Trust::Anything),
        control_plane.kubeconfig_for(
            control_plane.url(),
            control_plane.admin_token(),
            Trust::Authority(control_plane.ca_pem()),
        ),
    ] {
        let parsed = kube::config::Kubeconfig::from_yaml(&text)?;
        let config = kube::Config::from_custom_kubeconfig(parsed, &Default::default()).await?;
        Api::<Namespace>::all(Client::try_from(config)?).get("default").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_written_kubeconfig_is_for_this_user_only() -> Result<()> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kubeconfig-{}", std::process::id()));
    std::fs::write(&file, "an older one, readable by all")?;
    ControlPlane::shared().await.write_kubeconfig(&file)?;
    let (mode, text) = (std::fs::metadata(&file)?.permissions().mode(), std::fs::read_to_string(&file)?);
    std::fs::remove_file(&file)?;
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(text, ControlPlane::shared().await.kubeconfig());
    Ok(())
}

#[tokio::test]
async fn a_custom_resource_is_served_once_its_definition_is_applied() -> Result<()> {
    let both = format!("{}---\n{}", definition("apples", "Apple"), definition("pears", "Pear"));
    let control_plane = ControlPlane::shared().await;
    control_plane.apply_crd(&both).await?;
    control_plane.apply_crd(&both).await.context("a second time")
}

#[tokio::test]
async fn manifests_of_any_kind_are_applied_in_their_order() -> Result<()> {
    let text = format!(
        "# a comment\n---\n{}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: orchard}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: basket, namespace: orchard}}\ndata: {{of: figs}}\n---\n\
         apiVersion: testbed.example.com/v1\nkind: Fig\nmetadata: {{name: first}}\n",
        definition("figs", "Fig")
    );
    let control_plane = ControlPlane::shared().await;
    control_plane.apply_manifests(&text).await?;
    control_plane.apply_manifests(&text).await.context("a second time")?;
    let basket = Api::<ConfigMap>::namespaced(control_plane.client(), "orchard").get("basket").await?;
    assert_eq!(basket.data, Some([("of".to_owned(), "figs".to_owned())].into()));
    let unknown =
        control_plane.apply_manifests("apiVersion: testbed.example.com/v1\nkind: Plane\nmetadata: {name: a}").await;
    assert!(unknown.is_err());
    Ok(())
}

#[tokio::test]
async fn an_api_server_stopped_and_started_again_keeps_its_objects() -> Result<()> {
    let control_plane = ControlPlane::builder().start().await?;
    let url = control_plane.url().to_owned();
    control_plane.create_namespace("kept").await?;

    control_plane.stop_api_server()?;
    let mut config = control_plane.config_for(&url, control_plane.admin_token(), Trust::ControlPlane)?;
    config.default_retry = false;
    let namespaces = Api::<Namespace>::all(Client::try_from(config)?);
    assert!(namespaces.get("kept").await.is_err(), "it was stopped");

    control_plane.start_api_server().await?;
    namespaces.get("kept").await?;
    Ok(())
}

#[tokio::test]
async fn a_control_plane_that_was_given_back_is_leased_again_as_it_was_at_first() -> Result<()> {
    let first = ControlPlane::lease().await?;
    let (url, replica) = (first.url().to_owned(), first.replica("replica-0").await?);
    let namespace = first.unique_namespace("left").await?;
    let tables = "apiVersion: platform.example.com/v1alpha1\nkind: EgressShardTable\nmetadata: {name: egress-controller}\n\
                  spec: {hashVersion: 1, installation: egress-controller, leaseDurationSeconds: 15, shardCount: 1}\n";
    first.apply_manifests(tables).await?;
    drop(first);

    let second = ControlPlane::lease().await?;
    assert_eq!(second.url(), url);
    let cached = ListParams::default().match_any();
    let namespaces = Api::<Namespace>::all(second.client()).list(&cached).await?;
    assert!(namespaces.iter().all(|found| found.name_any() != namespace), "a list from the cache shows it");
    let again = second.replica("replica-0").await?;
    assert_ne!(again.uid, replica.uid);
    assert!(second.delete_manifests(tables).await.is_err(), "the table has gone");

    second.remove_fence().await?;
    drop(second);
    let third = ControlPlane::lease().await?;
    assert_ne!(third.url(), url, "the installation was changed");

    let url = third.url().to_owned();
    third.pause(Component::ApiServer)?;
    third.resume(Component::ApiServer)?;
    drop(third);
    assert_ne!(ControlPlane::lease().await?.url(), url, "a server was disturbed");
    Ok(())
}

#[tokio::test]
async fn a_paused_api_server_answers_only_when_resumed() -> Result<()> {
    let control_plane = ControlPlane::builder().start().await?;
    let namespaces = Api::<Namespace>::all(control_plane.client());
    control_plane.pause(Component::ApiServer)?;
    let answer = tokio::spawn(async move { namespaces.get("default").await });
    let state = format!("/proc/{}/stat", control_plane.process_ids()[&Component::ApiServer]);
    eventually(SOON, || async {
        ensure!(std::fs::read_to_string(&state)?.contains(") T "), "not stopped yet");
        Ok(())
    })
    .await?;
    assert!(!answer.is_finished());

    control_plane.resume(Component::ApiServer)?;
    answer.await??;
    let usage = control_plane.cpu_and_memory()?;
    for component in [Component::Etcd, Component::ApiServer] {
        let usage = usage[&component];
        assert!(usage.cpu > Duration::ZERO && usage.memory > 1 << 20 && usage.peak_memory >= usage.memory, "{usage:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_audit_log_holds_the_bodies_of_network_policy_writes() -> Result<()> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("audit-{}.log", std::process::id()));
    let control_plane = ControlPlane::builder().audit_log(&file, AuditLevel::RequestResponse).start().await?;
    let policies = Api::<NetworkPolicy>::namespaced(control_plane.client(), "default");
    let metadata = ObjectMeta { name: Some("audited".to_owned()), ..ObjectMeta::default() };
    let policy = NetworkPolicy { metadata, spec: Some(Default::default()) };
    policies.create(&PostParams::default(), &policy).await?;
    let found = eventually(SOON, || async {
        let text = std::fs::read_to_string(&file)?;
        let line = text.lines().find(|line| line.contains("\"audited\"") && line.contains("responseObject"));
        Ok(line.context("no line yet")?.to_owned())
    })
    .await;
    std::fs::remove_file(&file)?;
    let event: serde_json::Value = serde_json::from_str(&found?)?;
    assert_eq!(event["verb"], "create");
    assert_eq!(event["responseObject"]["kind"], "NetworkPolicy");
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    let outcome = ControlPlane::builder().api_server_flag("--no-such-flag").start().await;
    let told = format!("{:#}", outcome.expect_err("the flag does not exist"));
    assert!(told.contains("kube-apiserver ended with") && told.contains("unknown flag: --no-such-flag"), "{told}");
}

#[tokio::test]
async fn with_a_controller_manager_a_deleted_namespace_goes_away_and_owned_objects_are_collected() -> Result<()> {
    let control_plane = ControlPlane::builder().controller_manager(true).start().await?;
    let (kept, deleted) =
        (control_plane.unique_namespace("kept").await?, control_plane.unique_namespace("gone").await?);
    let namespaces = Api::<Namespace>::all(control_plane.client());
    let maps = Api::<ConfigMap>::namespaced(control_plane.client(), &kept);

    let owner = maps.create(&PostParams::default(), &config_map("owner", None)).await?;
    let reference = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: owner.name_any(),
        uid: owner.uid().context("an object without a uid")?,
        ..OwnerReference::default()
    };
    maps.create(&PostParams::default(), &config_map("owned", Some(reference))).await?;
    maps.delete("owner", &DeleteParams::default()).await?;
    namespaces.delete(&deleted, &DeleteParams::default()).await?;

    eventually(COLLECTED, || async { is_gone(maps.get_opt("owned").await) }).await.context("the owned object")?;
    eventually(COLLECTED, || async { is_gone(namespaces.get_opt(&deleted).await) }).await.context("the namespace")
}

#[tokio::test]
async fn a_restarted_controller_manager_collects_what_a_new_kind_of_object_owns() -> Result<()> {
    let control_plane = ControlPlane::builder().controller_manager(true).start().await?;
    control_plane.apply_crd(&definition("plums", "Plum")).await?;
    control_plane.restart_controller_manager()?;
    let kind = GroupVersionKind::gvk("testbed.example.com", "v1", "Plum");
    let resource = ApiResource::from_gvk_with_plural(&kind, "plums");
    let plums = Api::<DynamicObject>::namespaced_with(control_plane.client(), "default", &resource);
    let maps = Api::<ConfigMap>::namespaced(control_plane.client(), "default");

    let owner = plums.create(&PostParams::default(), &DynamicObject::new("owner", &resource)).await?;
    let reference = owner.owner_ref(&resource).context("an object without a uid")?;
    maps.create(&PostParams::default(), &config_map("owned", Some(reference))).await?;
    plums.delete("owner", &DeleteParams::default()).await?;
    eventually(AFTER_RESTART, || async { is_gone(maps.get_opt("owned").await) }).await
}

#[tokio::test]
async fn everything_ends_when_the_value_is_dropped() -> Result<()> {
    let control_plane = ControlPlane::builder().start().await?;
    let ids: Vec<u32> = control_plane.process_ids().into_values().collect();
    let folder = control_plane.folder().to_path_buf();
    assert!(ids.len() == 2 && folder.exists());
    drop(control_plane);
    everything_has_ended(&ids, &folder).await
}

/// Runs itself a second time as the parent that is killed: `kill -9` leaves it no chance to clean up.
#[tokio::test]
async fn everything_ends_when_the_parent_is_killed() -> Result<()> {
    if std::env::var_os(HOLD).is_some() {
        let control_plane = ControlPlane::builder().start().await?;
        let ids: Vec<String> = control_plane.process_ids().values().map(u32::to_string).collect();
        println!("{HELD}{}:{}", ids.join(","), control_plane.folder().display());
        return std::future::pending().await;
    }
    let mut parent = Command::new(std::env::current_exe()?)
        .args(["--exact", "everything_ends_when_the_parent_is_killed", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(parent.stdout.take().context("no stdout")?).lines();
    let told = tokio::task::spawn_blocking(move || {
        // The harness prints the test's name first, on the same line.
        lines.map_while(Result::ok).find_map(|line| Some(line.split_once(HELD)?.1.to_owned()))
    })
    .await?;
    kill(Pid::from_raw(i32::try_from(parent.id())?), Signal::SIGKILL)?;
    parent.wait()?;

    let told = told.context("the parent told nothing")?;
    let (ids, folder) = told.split_once(':').context("no folder")?;
    let ids: Vec<u32> = ids.split(',').map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(ids.len(), 2);
    everything_has_ended(&ids, Path::new(folder)).await
}

#[tokio::test]
async fn a_missing_go_is_named_in_the_error() {
    let nowhere = PathBuf::from("/nonexistent");
    let environment = Environment { search_path: nowhere.clone().into(), ready_made: None, cache: nowhere };
    let outcome = ControlPlane::builder().environment(environment).start().await;
    let told = format!("{:#}", outcome.expect_err("there is no go"));
    assert!(told.contains("`go`") && told.contains("Install Go 1.26") && told.contains("KUBEBUILDER_ASSETS"), "{told}");
}
