//! Process plumbing shared by the Plumbline controllers: start, stop, observe, tell.
//!
//! | module | what |
//! |---|---|
//! | [`telemetry`] | logging to standard error, as text or JSON |
//! | [`client`] | the TLS provider and a [`kube::Client`] that names itself |
//! | [`watched`] | tells metrics of every request a client makes |
//! | [`admin`] | HTTP `/livez`, `/readyz` (and the peers' names for them) and `/metrics` |
//! | [`leader`] | leader election by Lease |
//! | [`shutdown`] | signals and supervised tasks: the first failure ends the process |
//! | [`conditions`] | pure: merging `metav1.Condition`s |
//! | [`events`] | Kubernetes Events, sent in the background, never blocking a reconcile |
//! | [`backoff`] | pure: delays between retries |
//! | [`duration`] | pure: Go's duration syntax, which all three contracts use |
//!
//! What must not come here: CRDs, annotation names, a controller framework, a shared error enum,
//! domain hashing, anything used by fewer than two controllers.

pub mod admin;
pub mod backoff;
pub mod client;
pub mod conditions;
pub mod duration;
pub mod events;
pub mod leader;
pub mod shutdown;
pub mod telemetry;
pub mod watched;
