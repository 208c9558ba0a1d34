//! SealedSecrets that are safe to commit, turned into Secrets: the wire format, the controller `plumbline-unsealer` and
//! the command line `kubeseal`.
//!
//! [`crypto`] is the item format and knows nothing of Kubernetes; [`scope`] binds items to a namespace and a name;
//! [`api`] is the custom resource; [`unseal`] opens one. [`cli`] is kubeseal.

pub mod api;
pub mod cli;
pub mod crypto;
pub mod documents;
mod emit;
pub mod goflags;
pub mod scope;
pub mod unseal;
