//! SealedSecrets that are safe to commit, turned into Secrets: the wire format, the controller `plumbline-unsealer` and
//! the command line `kubeseal`.
//!
//! | module | what |
//! |---|---|
//! | [`crypto`] | the item format, keys and certificates; knows nothing of Kubernetes |
//! | [`scope`] | binds items to a namespace and a name |
//! | [`sealed_with`] | which key sealed what, as an annotation |
//! | [`api`] | the custom resource |
//! | [`unseal`], [`template`], [`hint`] | pure: a SealedSecret and a keyring in, items out |
//! | [`observe`] → [`decide`] → [`act`] → [`report`] | the controller; `decide` is pure, only `act` writes |
//! | [`desired`], [`record`] | what `decide` compares: the Secret asked for, and what was done before |
//! | [`redact`] | what the API server says, without values |
//! | [`controller`], [`queue`], [`context`], [`reconcile`] | what is worked on next, and how |
//! | [`keystore`], [`publish`] | the sealing keys in the cluster, and the certificate for everybody |
//! | [`server`], [`limit`] | the HTTP API that kubeseal talks to |
//! | [`cli`] | kubeseal |

pub mod act;
pub mod api;
pub mod cli;
pub mod config;
pub mod context;
pub mod controller;
pub mod crypto;
pub mod decide;
pub mod desired;
pub mod documents;
mod emit;
pub mod goflags;
pub mod hint;
pub mod keystore;
pub mod limit;
pub mod metrics;
pub mod observe;
pub mod publish;
pub mod queue;
pub mod reconcile;
pub mod record;
pub mod redact;
pub mod report;
pub mod run;
pub mod scope;
pub mod sealed_with;
pub mod server;
pub mod template;
pub mod unseal;
