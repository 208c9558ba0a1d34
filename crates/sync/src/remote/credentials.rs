//! Reads what `spec.kubeConfig` names: a Secret with a kubeconfig, or a ConfigMap that says for which cluster one of our own
//! accounts gets a token.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{ConfigMap, Secret, ServiceAccount},
    },
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use zeroize::Zeroizing;

use super::{Connection, kubeconfig::Refusal, workload};
use crate::{
    api::{KubeConfigReference, SecretKeyReference},
    cluster::requests::{self, ReadError},
    reconcile::Step,
};

/// How long a token lasts; the API server may shorten it.
const LIFETIME: i64 = 3600;

/// Why there is no connection, for the condition: reason and message.
type Problem = (&'static str, String);

fn failed(message: String) -> Problem {
    ("ReconciliationFailed", message)
}

/// Tokens that were asked for, by namespace, account and audiences, and when the next one is to be asked for.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Subject, (Zeroizing<String>, Instant)>>);

type Subject = (String, String, Vec<String>);

impl Tokens {
    /// A token that still lasts for a while.
    async fn get(&self, client: &Client, subject: Subject) -> Result<Zeroizing<String>, ReadError> {
        let now = Instant::now();
        if let Some((token, until)) = self.lock().get(&subject)
            && *until > now
        {
            return Ok(token.clone());
        }
        let (namespace, account, audiences) = &subject;
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: audiences.clone(),
                expiration_seconds: Some(LIFETIME),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let params = PostParams::default();
        let answer = requests::bounded(api.create_token_request(account, &params, &request)).await?;
        let Some(status) = answer.status else {
            return Err(kube::Error::Service("the API server answers without a token".into()).into());
        };
        let lasts = status.expiration_timestamp.0.duration_since(Timestamp::now());
        let lasts = Duration::try_from(lasts).unwrap_or_default();
        let token = Zeroizing::new(status.token);
        let mut all = self.lock();
        all.retain(|_, (_, until)| *until > now);
        all.insert(subject, (token.clone(), now + lasts.mul_f64(0.8)));
        Ok(token)
    }

    /// The next ones are asked for anew: these were not accepted.
    pub(super) fn distrust(&self, namespace: &str) {
        self.lock().retain(|(of, ..), _| of != namespace);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Subject, (Zeroizing<String>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Step<'_> {
    /// The connection that `spec.kubeConfig` leads to, as `user`.
    pub(crate) async fn connection(
        &self,
        reference: &KubeConfigReference,
        user: Option<&str>,
    ) -> Result<Arc<Connection>, Problem> {
        let (field, kubeconfig) = match (&reference.secret_ref, &reference.config_map_ref) {
            (Some(secret), None) => self.read_secret(secret).await?,
            (None, Some(map)) => self.ask_for_token(&map.name).await?,
            _ => {
                return Err(failed(
                    "spec.kubeConfig: name either a secretRef or a configMapRef".into(),
                ));
            }
        };
        let connection = self.context.remotes.get(&kubeconfig, user).await;
        connection.map_err(|refusal| refused(&field, "the kubeconfig is not used", &refusal))
    }

    async fn read_secret(
        &self,
        secret: &SecretKeyReference,
    ) -> Result<(String, Zeroizing<Vec<u8>>), Problem> {
        let namespace = &self.owner.namespace;
        let field = format!("spec.kubeConfig.secretRef: Secret {namespace}/{}", secret.name);
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);
        let found = requests::bounded(api.get_opt(&secret.name)).await;
        let found = found.map_err(|error| failed(format!("{field} cannot be read: {error}")))?;
        let found = found.ok_or_else(|| {
            failed(format!(
                "{field} does not exist: create it, with the kubeconfig under the key \"value\""
            ))
        })?;
        let mut data = found.data.unwrap_or_default();
        let keys = match secret.key.as_deref().filter(|key| !key.is_empty()) {
            Some(key) => vec![key],
            None => vec!["value", "value.yaml"],
        };
        match keys.iter().find_map(|key| data.remove(*key)) {
            Some(kubeconfig) => Ok((field, Zeroizing::new(kubeconfig.0))),
            None => Err(failed(format!(
                "{field} has no key \"{}\" with a kubeconfig",
                keys.join("\" or \"")
            ))),
        }
    }

    async fn ask_for_token(&self, name: &str) -> Result<(String, Zeroizing<Vec<u8>>), Problem> {
        let namespace = &self.owner.namespace;
        let field = format!("spec.kubeConfig.configMapRef: ConfigMap {namespace}/{name}");
        let client = &self.context.client;
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let found = requests::bounded(api.get_opt(name)).await;
        let found = found.map_err(|error| failed(format!("{field} cannot be read: {error}")))?;
        let found = found.ok_or_else(|| failed(format!("{field} does not exist: create it")))?;
        let data = found.data.unwrap_or_default();
        let wanted = workload::read(&data).map_err(|refusal| refused(&field, "it is not used", &refusal))?;
        let subject = (
            namespace.clone(),
            wanted.account.clone(),
            wanted.audiences.clone(),
        );
        let token = self.context.remotes.tokens.get(client, subject).await;
        let token = token.map_err(|error| {
            failed(format!(
                "{field}: there is no token for the ServiceAccount {namespace}/{}: {error}",
                wanted.account
            ))
        })?;
        Ok((field, wanted.kubeconfig(&token)))
    }
}

fn refused(field: &str, what: &str, refusal: &Refusal) -> Problem {
    (refusal.reason(), format!("{field}: {what}: {refusal}"))
}
