//! Where certificates come from, which mode wins, what is said on a terminal.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::SECRET;
use crate::support::{ORIGINAL, ours, run, run_with, workspace};

/// Serves `body` with `status` to everybody, until the process ends; the address.
fn serve(status: &'static str, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            // As a proxy: what comes through the tunnel is answered here, too.
            if head[..length].starts_with(b"CONNECT ") {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n"));
                drop(stream.read(&mut head));
            }
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            drop(stream.write_all(&[answer.as_bytes(), &body].concat()));
        }
    });
    address
}

#[test]
fn certificates_come_from_urls_and_files() {
    let directory = workspace();
    let at = directory.path();
    let pem = std::fs::read(at.join("k2048.crt")).unwrap();
    let found = format!("http://{}/v1/cert.pem", serve("200 OK", pem));
    let missing = format!("http://{}/v1/cert.pem", serve("404 Not Found", b"no".to_vec()));
    let file = format!("file://{}", at.join("k2048.crt").display());
    for program in [&*ORIGINAL, &ours()] {
        for location in [&found, &file] {
            let sealed = run(program, at, &["--cert", location], SECRET).ok();
            assert!(sealed.contains("encryptedData"), "{location}");
        }
        let said = run(program, at, &["--cert", &missing], SECRET).failure();
        assert_eq!(
            said,
            format!("cannot fetch {missing:?}: 404 Not Found"),
            "{}",
            program.display()
        );
        // A scheme of one letter is a drive.
        let said = run(program, at, &["--cert", "c:\\none.crt"], SECRET).failure();
        assert_eq!(said, "open c:\\none.crt: no such file or directory");
    }
    // Nobody answers: an error, and soon.
    let said = run(&ours(), at, &["--cert", "http://127.0.0.1:1/"], SECRET).failure();
    assert!(
        said.starts_with("cannot fetch \"http://127.0.0.1:1/\": "),
        "{said}"
    );
    // Over a proxy that the environment names, unless the host is excepted.
    let pem = std::fs::read(at.join("k2048.crt")).unwrap();
    let proxy = format!("http://{}", serve("200 OK", pem));
    let by_proxy =
        |env: &[(&str, &str)]| run_with(&ours(), at, &["--cert", "http://cert.invalid/a"], SECRET, env);
    by_proxy(&[("HTTP_PROXY", &proxy)]).ok();
    by_proxy(&[("http_proxy", &proxy)]).ok();
    assert_eq!(
        by_proxy(&[("HTTP_PROXY", &proxy), ("NO_PROXY", ".invalid")]).code,
        1
    );
}

#[test]
fn a_certificate_without_an_rsa_key_is_refused() {
    let directory = workspace();
    let at = directory.path();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    std::fs::write(at.join("ec.crt"), certificate.pem()).unwrap();
    for program in [&*ORIGINAL, &ours()] {
        let said = run(program, at, &["--cert", "ec.crt"], SECRET).failure();
        assert!(said.starts_with("expected RSA public key but found "), "{said}");
    }
    // The first certificate of a chain counts, and what stands around it does not.
    let pem = std::fs::read_to_string(at.join("k2048.crt")).unwrap();
    std::fs::write(
        at.join("chain.crt"),
        format!("Subject: x\n{pem}\n{}", certificate.pem()),
    )
    .unwrap();
    run(&ours(), at, &["--cert", "chain.crt"], SECRET).ok();
}

#[test]
fn the_first_mode_in_the_fixed_order_wins() {
    let directory = workspace();
    let at = directory.path();
    let sealed = run(&ours(), at, &["--cert", "k2048.crt"], SECRET).ok();
    let recovery = ["--recovery-unseal", "--recovery-private-key", "k2048.key"];
    // The old name of --re-encrypt.
    let said = run(&ours(), at, &["--rotate"], &sealed).failure();
    assert!(said.contains("no configuration has been provided"), "{said}");
    for program in [&*ORIGINAL, &ours()] {
        // Without a cluster to be found, whoever asks it says so.
        let unseal = run(
            program,
            at,
            &[
                &recovery[..],
                &["--validate", "--re-encrypt", "--fetch-cert", "--raw"],
            ]
            .concat(),
            &sealed,
        );
        assert!(unseal.ok().contains("\"kind\": \"Secret\""));
        let fetched = run(program, at, &["--fetch-cert", "--raw", "--cert", "k2048.crt"], "").ok();
        assert!(fetched.starts_with("-----BEGIN CERTIFICATE-----"));
        for mode in [
            &["--validate", "--raw"][..],
            &["--re-encrypt", "--raw"],
            &["--fetch-cert"],
            &[],
        ] {
            let said = run(program, at, mode, &sealed).failure();
            assert!(!said.contains("--raw"), "{mode:?}: {said}");
        }
        let switched = run(
            program,
            at,
            &["--validate=false", "--raw=false", "--cert=k2048.crt"],
            SECRET,
        )
        .ok();
        assert!(switched.contains("encryptedData"));
    }
}

#[test]
fn a_terminal_is_told_what_is_waited_for() {
    let directory = workspace();
    let at = directory.path();
    for (flags, expected) in [
        (
            "--cert k2048.crt",
            "(tty detected: expecting a secret to encrypt in stdin)",
        ),
        (
            "--cert k2048.crt --raw --scope cluster-wide",
            "(tty detected: expecting a secret to encrypt in stdin)",
        ),
        (
            "--recovery-unseal --recovery-private-key k2048.key",
            "(tty detected: expecting json/yaml k8s resource in stdin)",
        ),
    ] {
        // `script` gives the program a terminal, and ends its input.
        let output = Command::new("script")
            .current_dir(at)
            .args(["-qec", &format!("{} {flags}", ours().display()), "/dev/null"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(expected), "{flags}: {said}");
    }
}

#[test]
fn an_empty_namespace_flag_is_none() {
    let directory = workspace();
    let at = directory.path();
    for program in [&*ORIGINAL, &ours()] {
        run(program, at, &["--cert", "k2048.crt", "-n", ""], SECRET).ok();
    }
    let flags = ["--raw", "--cert", "k2048.crt", "-n", "", "--name", "a"];
    assert_eq!(
        run(&ours(), at, &flags, "x").failure(),
        "must provide the --namespace flag with --raw and --scope strict"
    );
}
