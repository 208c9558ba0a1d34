//! Submodules: which ones a commit has, and where they are.

use gix_config::file::init::Options;

use super::{CommitId, FileUrls, GitError, Remote, RemoteUrl, RepoPath, Snapshot, listing::Entry};

/// Name of the file that says where submodules are.
const MODULES: &str = ".gitmodules";
/// Bytes of that file.
const MODULES_SIZE: u64 = 256 << 10;
/// Submodules of one commit.
const SUBMODULES: usize = 100;

/// A submodule of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submodule {
    /// The directory it is in.
    pub path: RepoPath,
    /// Where it is, as written.
    pub url: String,
    /// The commit that is wanted of it.
    pub commit: CommitId,
}

impl Snapshot {
    /// The submodules of the commit that are in `.gitmodules` and in the tree, in the order of the file.
    pub fn submodules(&self) -> Result<Vec<Submodule>, GitError> {
        let modules = RepoPath::parse(MODULES)?;
        let Some(Entry::File { blob, .. }) = self.entry(&modules)? else {
            return Ok(Vec::new());
        };
        let invalid = |reason: String| GitError::InvalidSubmodule {
            name: MODULES.to_owned(),
            reason,
        };
        let text = self
            .read(blob, MODULES_SIZE)
            .map_err(|error| invalid(error.to_string()))?;
        let config = gix_config::File::from_bytes_no_includes(
            &text,
            gix_config::file::Metadata::api(),
            Options::default(),
        )
        .map_err(|error| invalid(format!("it cannot be read: {error}")))?;
        let mut found = Vec::new();
        for section in config.sections_by_name("submodule").into_iter().flatten() {
            let (Some(path), Some(url)) = (section.value("path"), section.value("url")) else {
                continue;
            };
            let path = RepoPath::parse(&path.to_string())?;
            // Without an entry in the tree it is a leftover, which Git ignores too.
            let Ok(Some(Entry::Submodule { commit, .. })) = self.entry(&path) else {
                continue;
            };
            if found.len() == SUBMODULES {
                return Err(invalid(format!("there are more than {SUBMODULES} submodules")));
            }
            found.push(Submodule {
                path,
                url: url.to_string(),
                commit,
            });
        }
        Ok(found)
    }
}

impl Submodule {
    /// How it is reached from the repository it is in. It gets the credentials and the client certificate only if it
    /// is on the host they are for.
    pub fn remote(&self, parent: &Remote, file_urls: FileUrls) -> Result<Remote, GitError> {
        let invalid = |reason: String| GitError::InvalidSubmodule {
            name: self.path.to_string(),
            reason,
        };
        let text = if self.url.starts_with("./") || self.url.starts_with("../") {
            relative(parent.url.as_str(), &self.url)
                .ok_or_else(|| invalid(format!("its URL {:?} leads out of the server", self.url)))?
        } else {
            self.url.clone()
        };
        let url = RemoteUrl::parse(&text, file_urls).map_err(|error| invalid(error.to_string()))?;
        let mut remote = parent.clone();
        if !url.same_origin(&parent.url) {
            remote.credentials = super::Credentials::None;
            remote.tls.client = None;
        }
        remote.url = url;
        Ok(remote)
    }
}

/// Git's rule: relative to the URL of the repository, as if that were a directory.
fn relative(base: &str, url: &str) -> Option<String> {
    let (scheme, rest) = base.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in url.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| format!("{scheme}://{host}/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::{Credentials, Secret};

    fn submodule(url: &str) -> Submodule {
        Submodule {
            path: RepoPath::parse("deploy/module").unwrap(),
            url: url.to_owned(),
            commit: "0123456789012345678901234567890123456789".parse().unwrap(),
        }
    }

    fn parent() -> Remote {
        let url = RemoteUrl::parse("https://git.example.com/team/app.git", FileUrls::Refused).unwrap();
        Remote::new(url)
            .with_credentials(Credentials::Bearer(Secret::new("token")))
            .unwrap()
    }

    #[test]
    fn relative_urls_are_resolved_against_the_repository() {
        for (url, resolved) in [
            ("../lib.git", "https://git.example.com/team/lib.git"),
            ("../../other/lib.git", "https://git.example.com/other/lib.git"),
            ("./lib.git", "https://git.example.com/team/app.git/lib.git"),
        ] {
            let remote = submodule(url).remote(&parent(), FileUrls::Refused).unwrap();
            assert_eq!(remote.url.as_str(), resolved);
            assert_ne!(remote.credentials, Credentials::None);
        }
        assert!(
            submodule("../../../x")
                .remote(&parent(), FileUrls::Refused)
                .is_err()
        );
    }

    #[test]
    fn credentials_stay_with_their_host() {
        for url in [
            "https://other.example.com/team/lib.git",
            "http://git.example.com/team/lib.git",
            "https://git.example.com:8443/team/lib.git",
        ] {
            let remote = submodule(url).remote(&parent(), FileUrls::Refused).unwrap();
            assert_eq!(remote.credentials, Credentials::None, "{url}");
        }
    }

    #[test]
    fn urls_that_would_run_or_read_something_are_refused() {
        for url in [
            "file:///etc",
            "/etc",
            "ext::sh -c id",
            "--upload-pack=id",
            "ssh://-oProxyCommand=id/x",
            "https://user:token@example.com/x",
            "git@example.com:x/y",
        ] {
            let error = submodule(url).remote(&parent(), FileUrls::Refused).unwrap_err();
            assert!(
                matches!(error, GitError::InvalidSubmodule { .. }),
                "{url}: {error}"
            );
        }
    }
}
