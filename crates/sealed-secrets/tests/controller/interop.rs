//! The original kubeseal against this controller, and ours, through the API server's service proxy.

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::PostParams;
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Place, Unsealer, item};

/// An address of this machine that the API server is willing to send proxied requests to: not a loopback one.
fn host_address() -> String {
    // Nothing is sent: connecting a datagram socket only chooses the local address.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

/// A Service that leads to `address`, a process beside the API server.
async fn expose(place: &Place, address: &str) {
    let (host, port) = address.split_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    let client = place.world.client();
    let namespace = place.namespace();
    let create = PostParams::default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = json!({
        "metadata": {"name": "unsealer"},
        "spec": {"containers": [{"name": "unsealer", "image": "none"}], "nodeName": "nowhere"},
    });
    pods.create(&create, &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    let status = json!({"status": {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}]}});
    pods.patch_status(
        "unsealer",
        &kube::api::PatchParams::default(),
        &kube::api::Patch::Merge(status),
    )
    .await
    .unwrap();
    let service = json!({
        "metadata": {"name": "sealed-secrets-controller"},
        "spec": {"ports": [{"name": "http", "port": 8080, "targetPort": port}]},
    });
    Api::<Service>::namespaced(client.clone(), namespace)
        .create(&create, &serde_json::from_value(service).unwrap())
        .await
        .unwrap();
    let slice = json!({
        "metadata": {"name": "unsealer", "labels": {"kubernetes.io/service-name": "sealed-secrets-controller"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [{
            "addresses": [host], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": "unsealer", "namespace": namespace},
        }],
    });
    Api::<EndpointSlice>::namespaced(client, namespace)
        .create(&create, &serde_json::from_value(slice).unwrap())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kubeseals_work_against_this_controller_through_the_service_proxy() {
    let place = Place::new().await;
    let unsealer = Unsealer::start(&place.world, &place.world.kubeconfig(), &host_address(), &[]).await;
    expose(&place, &unsealer.address).await;
    let directory = support::workspace();
    let kubeconfig = place.world.kubeconfig().display().to_string();
    let namespace = place.namespace().to_owned();
    let run = |program: &Path, arguments: &[&str], input: &str| {
        let connection = ["--kubeconfig", &kubeconfig, "--controller-namespace", &namespace];
        support::run(
            program,
            directory.path(),
            &[&connection[..], arguments].concat(),
            input,
        )
    };
    // The API server learns of the endpoint a moment later.
    let served = wait_for("the service proxy", PATIENCE, async || {
        let said = run(&support::ours(), &["--fetch-cert"], "");
        if said.code == 0 {
            Ok(said.stdout)
        } else {
            Err(said.stderr)
        }
    })
    .await
    .unwrap();
    assert_eq!(served, unsealer.certificate().await.pem);
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: NAME, namespace: {namespace}}}\nstringData: {{k: v}}\n"
    );
    for (n, program) in [&*support::ORIGINAL, &support::ours()].into_iter().enumerate() {
        let name = format!("interop-{n}");
        assert_eq!(run(program, &["--fetch-cert"], "").ok(), served);
        let sealed = run(program, &["-o", "yaml"], &secret.replace("NAME", &name)).ok();
        run(program, &["--validate"], &sealed).ok();
        let moved = sealed.replace(&name, "moved");
        assert_eq!(
            run(program, &["--validate"], &moved).failure(),
            "unable to decrypt sealed secret: moved"
        );
        let said = run(program, &["--re-encrypt"], &moved).failure();
        assert!(said.starts_with("cannot re-encrypt secret: "), "{said}");
        let rotated = run(program, &["--re-encrypt", "-o", "yaml"], &sealed).ok();
        let item_of =
            |text: &str| serde_yaml::from_str::<Value>(text).unwrap()["spec"]["encryptedData"]["k"].clone();
        assert_ne!(item_of(&rotated), item_of(&sealed));
        run(program, &["--validate"], &rotated).ok();
        place.world.kubectl_with(&["apply", "-f", "-"], &rotated).unwrap();
        assert_eq!(item(&place.secret(&name, |_| true).await, "k"), Some("v"));
        let said = run(program, &["--controller-name", "nobody"], &secret).failure();
        assert!(said.starts_with("cannot get sealed secret service: services \"nobody\" not found.\nPlease, use the flag --controller-name"), "{said}");
    }
    // In place.
    let file = directory.path().join("sealed.yaml");
    let sealed = run(&support::ours(), &["-o", "yaml"], &secret.replace("NAME", "file")).ok();
    std::fs::write(&file, &sealed).unwrap();
    run(&support::ours(), &["--re-encrypt", "-f", "sealed.yaml"], "").ok();
    let again = std::fs::read_to_string(&file).unwrap();
    assert_ne!(again, sealed);
    assert!(again.starts_with("---\n"));
    // One item of the file, with the controller's certificate; then the list of keys, from the controller's records.
    run(&support::ours(), &["set", "sealed.yaml", "k"], "new").ok();
    let changed = std::fs::read_to_string(&file).unwrap();
    let differing = again.lines().zip(changed.lines()).filter(|(old, new)| old != new);
    assert_eq!(differing.count(), 1);
    place.world.kubectl_with(&["apply", "-f", "-"], &changed).unwrap();
    assert_eq!(item(&place.secret("file", |_| true).await, "k"), Some("new"));
    let rows = wait_for("the records of three objects", PATIENCE, async || {
        let text = run(&support::ours(), &["keys", "list", "--json"], "").ok();
        let rows: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if rows[0]["objects"] == 3 {
            Ok(rows)
        } else {
            Err(text)
        }
    })
    .await
    .unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["state"], "sealing");
    assert_eq!(rows[0]["items"], 3);
    assert_eq!(rows[0]["safeToRetire"], false);
    // One that does not open does not stop the others from being asked about.
    let named = |name: &str| changed.replace("name: file", &format!("name: {name}"));
    let all = [named("one"), changed.clone(), named("two")].concat();
    assert_eq!(
        run(&support::ours(), &["--validate"], &all).failure(),
        "unable to decrypt sealed secret: one\nunable to decrypt sealed secret: two"
    );
}
