//! A pack whose deltas never end: no Git program sends one, so it is made here byte by byte.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Instant,
};

use gix_hash::{Kind, ObjectId, hasher};

use super::*;

/// Git itself stops at 4095 when it makes a pack.
const DEPTH: u32 = 1_000_000;
/// Memory for it, in MiB: a tenth of a kibibyte a delta, and what the other tests of this process use.
const MEMORY: u64 = 1_500;

fn id_of(kind: &str, content: &[u8]) -> ObjectId {
    let mut hashing = hasher(Kind::Sha1);
    hashing.update(format!("{kind} {}\0", content.len()).as_bytes());
    hashing.update(content);
    hashing.try_finalize().unwrap()
}

/// Not compressed, which zlib allows: a million of them are made quickly.
fn stored(content: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(content.len()).unwrap();
    out.extend([0x78, 0x01, 0x01]);
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(content);
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in content {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    out.extend(((b << 16) | a).to_be_bytes());
}

/// Type and length of an entry of a pack.
fn head(kind: u8, length: usize, out: &mut Vec<u8>) {
    let mut rest = length >> 4;
    let mut byte = (kind << 4) | u8::try_from(length & 15).unwrap();
    while rest > 0 {
        out.push(byte | 0x80);
        byte = u8::try_from(rest & 0x7f).unwrap();
        rest >>= 7;
    }
    out.push(byte);
}

/// How far back the base of a delta is.
fn offset(distance: usize, out: &mut Vec<u8>) {
    let mut bytes = vec![u8::try_from(distance & 0x7f).unwrap()];
    let mut rest = distance >> 7;
    while rest > 0 {
        rest -= 1;
        bytes.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
        rest >>= 7;
    }
    out.extend(bytes.into_iter().rev());
}

/// A pack with one commit of one file, which is the end of a chain of deltas; and the commit.
fn pack(depth: u32) -> (Vec<u8>, ObjectId) {
    let text = |n: u32| format!("{n:010}: a file that is the delta of a delta of a delta ...\n").into_bytes();
    let base = text(0);
    let mut out = Vec::with_capacity(40 * depth as usize);
    out.extend(b"PACK");
    out.extend(2_u32.to_be_bytes());
    out.extend((depth + 3).to_be_bytes());
    let mut before = out.len();
    head(3, base.len(), &mut out);
    stored(&base, &mut out);
    let size = u8::try_from(base.len()).unwrap();
    for n in 1..=depth {
        let at = out.len();
        // Ten bytes that are new, and the rest from the base.
        let mut delta = vec![size, size, 10];
        delta.extend(&text(n)[..10]);
        delta.extend([0x91, 10, size - 10]);
        head(6, delta.len(), &mut out);
        offset(at - before, &mut out);
        stored(&delta, &mut out);
        before = at;
    }
    let mut tree = b"100644 a.yaml\0".to_vec();
    tree.extend(id_of("blob", &text(depth)).as_bytes());
    let commit = format!(
        "tree {}\nauthor A <a@example.com> 1700000000 +0000\ncommitter A <a@example.com> 1700000000 +0000\n\nchain\n",
        id_of("tree", &tree)
    );
    head(2, tree.len(), &mut out);
    stored(&tree, &mut out);
    head(1, commit.len(), &mut out);
    stored(commit.as_bytes(), &mut out);
    let mut hashing = hasher(Kind::Sha1);
    hashing.update(&out);
    out.extend(hashing.try_finalize().unwrap().as_bytes());
    (out, id_of("commit", commit.as_bytes()))
}

fn line(text: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("{:04x}", text.len() + 4).into_bytes());
    out.extend(text);
}

/// As much of protocol v2 as one fetch needs.
fn answer(stream: TcpStream, pack: &[u8], commit: ObjectId) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request)?;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asks = |command: &[u8]| body.windows(command.len()).any(|it| it == command);
    let (mut out, mut kind) = (Vec::new(), "result");
    if request.starts_with("GET") {
        kind = "advertisement";
        line(b"# service=git-upload-pack\n", &mut out);
        out.extend(b"0000");
        for capability in [
            "version 2\n",
            "ls-refs\n",
            "fetch=shallow\n",
            "object-format=sha1\n",
        ] {
            line(capability.as_bytes(), &mut out);
        }
    } else if asks(b"command=ls-refs") {
        line(format!("{commit} refs/heads/main\n").as_bytes(), &mut out);
    } else {
        line(b"packfile\n", &mut out);
        for piece in pack.chunks(65_000) {
            line(&[&[1], piece].concat(), &mut out);
        }
    }
    out.extend(b"0000");
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        out.len()
    )?;
    stream.write_all(&out)
}

/// The most memory that this process ever used, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// The URL of a server that has nothing but this pack. It ends with the process.
fn serve(pack: Vec<u8>, commit: ObjectId) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/repository.git", listener.local_addr().unwrap());
    let pack = Arc::new(pack);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pack = Arc::clone(&pack);
            thread::spawn(move || drop(answer(stream, &pack, commit)));
        }
    });
    url
}

#[test]
fn a_chain_of_a_million_deltas_is_bounded() {
    let world = World::new();
    for depth in [60_000, DEPTH] {
        let (pack, commit) = pack(depth);
        let mut remote = remote(&serve(pack, commit));
        remote.timeout = Duration::from_secs(100);
        let begun = Instant::now();
        let mirror = world.mirrors().open(remote).unwrap();
        match sync(&mirror) {
            Ok((_, snapshot)) => {
                let fetched = begun.elapsed();
                let listing = list(&snapshot, "");
                let text = snapshot.read(listing.files[0].blob, 1 << 20).unwrap();
                let read = begun.elapsed().saturating_sub(fetched);
                println!("{depth} deltas: fetched in {fetched:?}, then read in {read:?}");
                assert!(text.starts_with(format!("{depth:010}").as_bytes()));
            }
            // Beyond 65,535 gitoxide counts over, which a debug build does not do.
            Err(error) => {
                println!("{depth} deltas: given up after {:?}: {error}", begun.elapsed());
                let given_up = matches!(
                    error,
                    GitError::Protocol { .. } | GitError::AnswerTooLarge { .. } | GitError::Timeout { .. }
                );
                assert!(given_up && depth == DEPTH, "{error}");
            }
        }
        assert!(
            begun.elapsed() < Duration::from_secs(150),
            "{:?}",
            begun.elapsed()
        );
    }
    let memory = peak_memory();
    println!("{memory} MiB");
    assert!(memory < MEMORY, "{memory} MiB");
    // The others of the same process go on.
    sync(&world.mirror()).unwrap();
}
