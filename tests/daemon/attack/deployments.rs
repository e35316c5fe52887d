//! Instances that are gone, and a way in to those that are not well: what comes with a deployment.

use std::path::PathBuf;

use crate::{
    deployment::{read, unit, value},
    support::files,
    views::promtool,
};

#[test]
fn an_instance_that_is_gone_or_in_a_crash_loop_raises_an_alert() {
    let tests = read("prometheus/dotmac.rules.test.yml");
    for alert in [
        "DotmacInstanceDown",
        "DotmacInstancesMissing",
        "DotmacCrashLoop",
    ] {
        let raised = format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels:");
        assert!(tests.contains(&raised), "no test raises {alert}");
    }
    promtool(&["test", "rules", "dotmac.rules.test.yml"]);
}

#[test]
fn every_deployment_has_an_admin_socket_and_a_place_for_it() {
    let socket = "/run/dotmac/admin.sock";
    let manifest = read("kubernetes/deployment.yaml");
    let variable = manifest.split("name: DOTMAC_ADMIN_SOCKET").nth(1).unwrap();
    assert_eq!(value(variable, "value"), socket);
    let mount = manifest.split("- name: run").nth(1).unwrap();
    assert_eq!(value(mount, "mountPath"), "/run/dotmac");
    let volume = manifest.split("- name: run").nth(2).unwrap();
    assert_eq!(value(volume, "emptyDir"), "");

    let unit = unit("dotmac");
    assert!(unit.contains(&format!("Environment=DOTMAC_ADMIN_SOCKET={socket}\n")));
    assert_eq!(value(&unit, "RuntimeDirectory"), "dotmac");
    assert_eq!(value(&unit, "RuntimeDirectoryMode"), "0700");

    let image = read("Dockerfile");
    assert!(image.contains(&format!("DOTMAC_ADMIN_SOCKET={socket}")));
    assert!(image.contains("-m 0700 -o 10001 -g 10001 /run/dotmac"));
    let volumes = image
        .lines()
        .find(|line| line.starts_with("VOLUME"))
        .unwrap();
    assert!(volumes.contains("\"/run/dotmac\""), "{volumes}");
}

#[test]
fn the_pods_have_the_token_that_the_kubernetes_login_reads() {
    let manifest = read("kubernetes/deployment.yaml");
    let mount = manifest.split("- name: vault-token").nth(1).unwrap();
    let directory = value(mount, "mountPath");
    let volume = manifest.split("- name: vault-token").nth(2).unwrap();
    let file = value(volume.split("serviceAccountToken").nth(1).unwrap(), "path");
    let token = format!("{directory}/{file}");
    let reads_it = |path: &PathBuf| std::fs::read_to_string(path).unwrap().contains(&token);
    assert!(
        files(&["platform/src"], "rs").iter().any(reads_it),
        "{token}"
    );

    let account = value(&manifest, "serviceAccountName").to_owned();
    assert_eq!(
        value(&read("kubernetes/serviceaccount.yaml"), "name"),
        account
    );
    let role = read("README.md");
    assert!(role.contains(&format!("bound_service_account_names={account}")));
    let audience = value(volume, "audience");
    assert!(role.contains(&format!("audience={audience}")));
}
