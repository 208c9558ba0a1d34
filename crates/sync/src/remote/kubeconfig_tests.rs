//! What is refused of a kubeconfig, and that no refusal repeats what is secret.

use super::*;

/// A kubeconfig whose cluster and user are these mappings.
fn config(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: other, context: {{cluster: elsewhere, user: someone}}}}, {{name: c, context: {{cluster: k, user: u, namespace: team}}}}]\n\
         clusters: [{{name: k, cluster: {cluster}}}]\n\
         users: [{{name: u, user: {user}}}]\n"
    )
}

const SERVER: &str = "{server: 'https://example.com:6443'}";

fn refusal(text: &str) -> Refusal {
    let Err(refusal) = read(text.as_bytes(), &KubeconfigPolicy::default()) else {
        panic!("taken: {text}");
    };
    refusal
}

#[test]
fn one_context_is_taken_and_nothing_else() {
    let cluster = "{server: 'https://example.com/k8s/c-1', certificate-authority-data: Q0E=, tls-server-name: s, extensions: [1]}";
    let user = "{token: hunter2, as: someone, as-groups: [a, b], future: {exec: x}}";
    let access = read(config(cluster, user).as_bytes(), &KubeconfigPolicy::default());
    let Ok(access) = access else { panic!("refused") };
    assert_eq!(access.server.to_string(), "https://example.com/k8s/c-1");
    assert_eq!(access.namespace.as_deref(), Some("team"));
    let taken = access.kubeconfig;
    assert_eq!(
        (taken.contexts.len(), taken.clusters.len(), taken.auth_infos.len()),
        (1, 1, 1)
    );
    let user = taken.auth_infos[0].auth_info.clone().unwrap();
    assert_eq!(user.impersonate.as_deref(), Some("someone"));
    assert_eq!(
        user.impersonate_groups,
        Some(vec!["a".to_owned(), "b".to_owned()])
    );
    assert!(user.token.is_some() && user.other.is_empty());
}

#[test]
fn what_a_secret_may_not_do_is_denied_by_name() {
    for (cluster, user, field, way_out) in [
        (
            SERVER,
            "{exec: {command: sh, args: [-c, 'hunter2']}}",
            "users[\"u\"].user.exec",
            "token",
        ),
        (
            SERVER,
            "{auth-provider: {name: gcp}}",
            "users[\"u\"].user.auth-provider",
            "token",
        ),
        (
            SERVER,
            "{tokenFile: /var/run/hunter2}",
            "users[\"u\"].user.tokenFile",
            "into token",
        ),
        (
            SERVER,
            "{client-certificate: /c}",
            "user.client-certificate",
            "client-certificate-data",
        ),
        (SERVER, "{client-key: /k}", "user.client-key", "client-key-data"),
        (
            "{server: 'https://e', certificate-authority: /ca}",
            "{}",
            "cluster.certificate-authority",
            "certificate-authority-data",
        ),
        (
            "{server: 'https://e', insecure-skip-tls-verify: true}",
            "{}",
            "insecure-skip-tls-verify",
            "certificate-authority-data",
        ),
        ("{server: 'http://e'}", "{}", "cluster.server", "https://"),
        ("{server: 'ftp://e'}", "{}", "cluster.server", "https://"),
        (
            "{server: 'https://169.254.169.254'}",
            "{}",
            "cluster.server",
            "169.254.169.254",
        ),
        (
            "{server: 'https://[fe80::1]:6443'}",
            "{}",
            "cluster.server",
            "fe80::1",
        ),
        (
            "{server: 'https://[::ffff:169.254.169.254]'}",
            "{}",
            "cluster.server",
            "169.254.169.254",
        ),
        (
            "{server: 'https://e', proxy-url: 'http://169.254.169.254:80'}",
            "{}",
            "cluster.proxy-url",
            "169.254.169.254",
        ),
        (
            "{server: 'https://e', proxy-url: 'socks5://p:1080'}",
            "{}",
            "cluster.proxy-url",
            "http://",
        ),
    ] {
        let refusal = refusal(&config(cluster, user));
        let message = refusal.to_string();
        assert_eq!(refusal.reason(), "AccessDenied", "{message}");
        assert!(
            message.contains(field) && message.contains(way_out),
            "{field}: {message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn what_nobody_could_use_says_what_is_missing() {
    let whole = config(SERVER, "{token: t}");
    for (text, part) in [
        ("", "one YAML document"),
        ("a: b\n---\nc: d\n", "one YAML document"),
        ("- hunter2\n", "has to be a mapping"),
        ("a: [hunter2\n", "it is not YAML: line"),
        ("a: &a [*a, hunter2]\n", "it is not YAML"),
        (&whole.replace("current-context: c\n", ""), "current-context"),
        (
            &whole.replace("current-context: c\n", "current-context: d\n"),
            "contexts[\"d\"]: there is none",
        ),
        (
            &whole.replace("current-context: c\n", "current-context: other\n"),
            "clusters[\"elsewhere\"]: there is none",
        ),
        (&whole.replace("users:", "nobody:"), "users[\"u\"]: there is none"),
        (
            &config("{}", "{}"),
            "clusters[\"k\"].cluster.server: it is missing",
        ),
        (&config("{server: 'https://'}", "{}"), "cluster.server: it"),
        (
            &config("{server: 'https://hunter2:pw@e'}", "{}"),
            "cluster.server: it has a user name",
        ),
        (
            &config(SERVER, "{token: 20062}"),
            "users[\"u\"].user.token: it is not text",
        ),
        (
            &config(SERVER, "{token: \"hunter2\\n\"}"),
            "users[\"u\"].user.token: it has characters",
        ),
        (
            &config(SERVER, "{as-groups: ['system:masters']}"),
            "user.as-groups: says nothing without",
        ),
        (
            &config(SERVER, "{as: '', as-groups: ['system:masters']}"),
            "user.as-groups: says nothing without",
        ),
        (
            &config(SERVER, "{as: x, as-groups: hunter2}"),
            "user.as-groups: has to be a list",
        ),
        (
            &config(SERVER, "[hunter2]"),
            "users[\"u\"].user has to be a mapping",
        ),
    ] {
        let refusal = refusal(text);
        let message = refusal.to_string();
        assert_eq!(refusal.reason(), "ReconciliationFailed", "{message}");
        assert!(message.contains(part), "{part:?} is not in {message:?}");
        assert!(
            !message.contains("hunter2") && !message.contains("20062"),
            "{message}"
        );
    }
    let large = format!("{whole}#{}", "x".repeat(MAX));
    assert!(refusal(&large).to_string().contains("512 KiB"));
    assert!(matches!(
        read(b"\xff", &KubeconfigPolicy::default()),
        Err(Refusal::Invalid(_))
    ));
}

#[test]
fn flags_open_and_close() {
    let unverified = config("{server: 'https://e', insecure-skip-tls-verify: true}", "{}");
    let open = KubeconfigPolicy {
        unverified: Unverified::Allowed,
        ..KubeconfigPolicy::default()
    };
    assert!(read(unverified.as_bytes(), &open).is_ok());
    let closed = KubeconfigPolicy {
        hosts: vec!["*.clusters.example.com:6443".parse().unwrap()],
        ..KubeconfigPolicy::default()
    };
    let at = |url: &str| config(&format!("{{server: '{url}'}}"), "{}");
    assert!(read(at("https://a.clusters.example.com:6443").as_bytes(), &closed).is_ok());
    for url in ["https://a.clusters.example.com", "https://example.com:6443"] {
        let Err(refusal) = read(at(url).as_bytes(), &closed) else {
            panic!("taken: {url}");
        };
        assert!(
            refusal.to_string().contains("--allowed-cluster-hosts"),
            "{refusal}"
        );
    }
}
