//! SealedSecrets that are safe to commit, turned into Secrets: the wire format, the controller `plumbline-unsealer` and
//! the command line `kubeseal`.
//!
//! | module | what |
//! |---|---|
//! | [`crypto`] | the item format, keys and certificates; knows nothing of Kubernetes |
//! | [`scope`] | binds items to a namespace and a name |
//! | [`api`] | the custom resource |
//! | [`unseal`], [`template`] | pure: a SealedSecret and a keyring in, items out |
//! | [`observe`] → [`decide`] → [`act`] → [`report`] | the controller; `decide` is pure, only `act` writes |
//! | [`controller`], [`queue`], [`reconcile`] | what is worked on next, and how |
//! | [`keystore`] | the sealing keys in the cluster |
//! | [`server`], [`limit`] | the HTTP API that kubeseal talks to |
//! | [`cli`] | kubeseal |

pub mod act;
pub mod api;
pub mod cli;
pub mod config;
pub mod controller;
pub mod crypto;
pub mod decide;
pub mod documents;
mod emit;
pub mod goflags;
pub mod keystore;
pub mod limit;
pub mod metrics;
pub mod observe;
pub mod queue;
pub mod reconcile;
pub mod report;
pub mod run;
pub mod scope;
pub mod server;
pub mod template;
pub mod unseal;
