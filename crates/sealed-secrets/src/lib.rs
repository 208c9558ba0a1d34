//! SealedSecrets that are safe to commit, turned into Secrets: the wire format, the controller `plumbline-unsealer` and
//! the command line `kubeseal`.
//!
//! [`crypto`] is the item format and knows nothing of Kubernetes; [`scope`] binds items to a namespace and a name.

pub mod crypto;
pub mod scope;
