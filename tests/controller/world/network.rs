//! A network of a test's own: addresses that are not loopback's, ports that nobody else has.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Output};

/// Set in the process that runs inside.
const INSIDE: &str = "EGRESS_TEST_INSIDE_NETWORK_NAMESPACE";

/// Whether this process is inside. If not, runs this test (its full name) again there, and fails as it fails.
pub async fn inside_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = std::fs::metadata("/proc/self").expect("/proc").uid() == 0;
    let unshare = if root { "-n" } else { "-rn" };
    let mut trial = Command::new("unshare");
    trial.args([unshare, "true"]);
    let tried = run(trial).await;
    assert!(
        tried.status.success(),
        "this test needs a network namespace, and `unshare {unshare}` says: {}. \
         Set the sysctls kernel.unprivileged_userns_clone=1 and user.max_user_namespaces=10000 \
         (and kernel.apparmor_restrict_unprivileged_userns=0 where there is one), or run it as root with CAP_SYS_ADMIN",
        String::from_utf8_lossy(&tried.stderr)
    );
    let program = std::env::current_exe().expect("this program");
    let mut again = Command::new("unshare");
    again.arg(unshare).arg(program).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = run(again).await;
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "it failed inside the namespace: see above");
    assert!(text.contains("1 passed"), "{test} is not the name of this test");
    false
}

async fn run(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    output.expect("no panic").expect("unshare (util-linux) is there")
}

/// Turns `lo` on, with these addresses beside its own.
pub async fn loopback_with(addresses: &[&str]) {
    let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
    let connection = tokio::spawn(connection);
    // Inside a new namespace lo is the first link.
    let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
    handle.link().set(up).execute().await.expect("lo is turned on");
    for address in addresses {
        let address: IpAddr = address.parse().expect("an address");
        let length = if address.is_ipv4() { 32 } else { 128 };
        handle.address().add(1, address, length).execute().await.expect("lo takes the address");
    }
    connection.abort();
}
