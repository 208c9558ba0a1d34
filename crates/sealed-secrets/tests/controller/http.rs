//! The API for kubeseal, as anybody in the cluster may call it.

use plumbline_sealed_secrets::api::SealedSecret;
use plumbline_sealed_secrets::crypto::{Envelope, decode, encode, seal};
use plumbline_sealed_secrets::scope::Scope;
use serde_json::{Value, json};

use crate::harness::{Place, http, http_with};

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_answer_as_they_always_have() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let call = |path: &'static str, body: String| {
        let address = unsealer.address.clone();
        async move { http(&address, "POST", path, &body).await }
    };
    // Any method, as ever; a HEAD has no body.
    for method in ["GET", "POST", "PUT", "BREW"] {
        assert_eq!(
            http(&unsealer.address, method, "/healthz", "").await,
            (200, "ok\n".to_owned())
        );
        assert_eq!(http(&unsealer.address, method, "/v1/cert.pem", "").await.0, 200);
    }
    assert_eq!(
        http(&unsealer.address, "HEAD", "/v1/cert.pem", "").await,
        (200, String::new())
    );
    assert_eq!(http(&unsealer.address, "GET", "/v1/other", "").await.0, 404);
    let good = unsealer.seal("a", Scope::Strict, &[("k", "v")]).await;
    let verify = |object: &Value| call("/v1/verify", object.to_string());
    assert_eq!(verify(&good).await, (200, String::new()));
    assert_eq!(
        call("/v1/verify", serde_yaml::to_string(&good).unwrap()).await,
        (200, String::new())
    );

    // Every way of not opening looks the same.
    let with = |item: &str| {
        let mut object = good.clone();
        object["spec"]["encryptedData"]["k"] = json!(item);
        object
    };
    let mut moved = good.clone();
    moved["metadata"]["name"] = json!("b");
    for bad in [with(""), with("!"), with("AgA="), with("AQBB"), moved] {
        assert_eq!(verify(&bad).await, (409, String::new()), "{bad}");
        assert_eq!(
            call("/v1/rotate", bad.to_string()).await,
            (500, String::new()),
            "{bad}"
        );
    }
    // And every way of not being a SealedSecret.
    let mut slash = good.clone();
    slash["metadata"]["namespace"] = json!("a/b");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [good]});
    let double = format!("{good}\n{good}");
    let bomb =
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n";
    for bad in [
        String::new(),
        "{".to_owned(),
        slash.to_string(),
        list.to_string(),
        double,
        bomb.to_owned(),
    ] {
        assert_eq!(call("/v1/verify", bad.clone()).await.0, 500, "{bad}");
        assert_eq!(call("/v1/rotate", bad).await, (500, String::new()));
    }
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(3 << 20));
    assert_eq!(call("/v1/verify", large).await.0, 400);
    assert!(
        unsealer
            .metric("sealed_secrets_controller_http_requests_total{path=\"/v1/verify\",code=\"409\"")
            .await
            > 4.5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_never_rendered_by_a_request() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut sealed = unsealer.seal("a", Scope::Strict, &[("pw", "abc")]).await;
    for template in [
        "{{ if hasPrefix \"a\" .pw }}{{ fail \"\" }}{{ end }}",
        "{{ range until 2000000000 }}x{{ end }}",
        "{{",
    ] {
        sealed["spec"]["template"] = json!({"data": {"x": template}});
        let text = sealed.to_string();
        assert_eq!(http(&unsealer.address, "POST", "/v1/verify", &text).await.0, 200);
        let (code, body) = http(&unsealer.address, "POST", "/v1/rotate", &text).await;
        assert_eq!(code, 200);
        let rotated: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(rotated["spec"]["template"], sealed["spec"]["template"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_replaces_ciphertexts_and_nothing_else() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut sealed = unsealer.seal("a", Scope::Strict, &[("k", "v"), ("l", "w")]).await;
    sealed["metadata"]["labels"] = json!({"x": "y"});
    sealed["spec"]["unknown"] = json!({"kept": [1, 2]});
    // A template that claims a wider scope than what was sealed must not widen it.
    sealed["spec"]["template"] = json!({
        "metadata": {"annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"}, "labels": {"a": "b"}},
        "data": {"rendered": "{{ .k }}"}, "type": "Opaque", "immutable": true,
    });
    let (code, body) = http(&unsealer.address, "POST", "/v1/rotate", &sealed.to_string()).await;
    assert_eq!(code, 200);
    let mut rotated: Value = serde_json::from_str(&body).unwrap();
    let moved: Value = {
        let mut moved = rotated.clone();
        moved["metadata"]["name"] = json!("b");
        moved
    };
    assert_eq!(
        http(&unsealer.address, "POST", "/v1/verify", &moved.to_string())
            .await
            .0,
        409,
        "still strict"
    );
    assert_eq!(http(&unsealer.address, "POST", "/v1/verify", &body).await.0, 200);
    for key in ["k", "l"] {
        assert_ne!(
            rotated["spec"]["encryptedData"][key],
            sealed["spec"]["encryptedData"][key]
        );
        rotated["spec"]["encryptedData"][key] = sealed["spec"]["encryptedData"][key].clone();
    }
    assert_eq!(rotated, sealed);
    drop(serde_json::from_value::<SealedSecret>(rotated).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_limit_does_not_look_at_headers() {
    let place = Place::new().await;
    let unsealer = place.start(&["--rate-limit=1", "--rate-limit-burst=2"]).await;
    for path in ["/v1/verify", "/v1/rotate"] {
        let mut limited = 0;
        for n in 0..8 {
            let header = format!("X-Forwarded-For: 10.0.0.{n}\r\n");
            if http_with(&unsealer.address, "POST", path, b"{}", &header).await.0 == 429 {
                limited += 1;
            }
        }
        assert!(limited >= 5, "{limited} of 8 {path}");
    }
}

/// Not a measurement of time, which proves nothing on a busy machine: every way of not opening costs the same RSA operations,
/// the one expensive step, whichever check it is that fails.
#[tokio::test(flavor = "multi_thread")]
async fn every_failure_costs_the_same_and_looks_the_same() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let label = Scope::Strict.label(place.namespace(), "a");
    let key = unsealer.certificate().await.public_key;
    let good = decode(&seal(&mut rand::rngs::SysRng, &key, &label, b"v").unwrap()).unwrap();
    let elsewhere = seal(&mut rand::rngs::SysRng, &key, b"other/label", b"v").unwrap();
    let mut tag = good.clone();
    *tag.last_mut().unwrap() ^= 1;
    let mut padding = good.clone();
    padding[100] ^= 1;
    let wrapped = Envelope::parse(&good).unwrap().wrapped_key;
    let ways = [
        ("another label", elsewhere),
        ("the tag", encode(&tag)),
        ("the padding", encode(&padding)),
        ("no tag at all", encode(&good[..2 + wrapped.len()])),
    ];
    let operations = "sealed_secrets_controller_private_key_operations_total";
    for (path, code) in [("/v1/verify", 409), ("/v1/rotate", 500)] {
        for (what, item) in &ways {
            // A good item before and behind: where it fails makes no difference either.
            let items = json!({"a": encode(&good), "k": item, "z": encode(&good)});
            let object = json!({
                "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
                "metadata": {"name": "a", "namespace": place.namespace()}, "spec": {"encryptedData": items},
            });
            let before = unsealer.metric(operations).await;
            let answer = http(&unsealer.address, "POST", path, &object.to_string()).await;
            assert_eq!(answer, (code, String::new()), "{what}");
            let cost = unsealer.metric(operations).await - before;
            assert!((cost - 3.0).abs() < 0.5, "{path}, {what}: {cost} operations");
        }
    }
}
