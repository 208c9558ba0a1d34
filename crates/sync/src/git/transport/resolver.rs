//! Names are looked up once, by us, and what they lead to is what is connected to: a name that leads to another address at
//! the second look gains nothing.

use std::{fmt, sync::Arc};

use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

use super::{super::UrlPolicy, Guard};

/// Lets no name lead to an address that is refused.
pub(super) struct Careful {
    pub(super) policy: Arc<UrlPolicy>,
    pub(super) guard: Arc<Guard>,
    pub(super) names: DefaultResolver,
}

impl fmt::Debug for Careful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Careful")
    }
}

impl Resolver for Careful {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        for address in &found {
            if let Err(refused) = self.policy.admit_address(address.ip()) {
                return Err(ureq::Error::Io(self.guard.fail(refused)));
            }
        }
        Ok(found)
    }
}
