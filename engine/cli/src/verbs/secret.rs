//! Secrets of tenants.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use super::identity::read_hidden;
use crate::args::SecretVerb;
use crate::client::Api;
use crate::exit::Outcome;
use crate::render::{Line, Now, Table, ago};

impl ApiCommand {
    /// Manages secrets.
    pub(crate) async fn secret(&self, verb: SecretVerb) -> Outcome {
        let mut client = self.client().await?;
        match verb {
            SecretVerb::Set { name, hosts, tenant } => {
                let value = read_hidden("value", "it is not shown here")?;
                let request = proto::SetSecretRequest { tenant, name, value, hosts };
                let set = client.ask(Api::set_secret, request).await?;
                self.answer(&json::of(&set), &format!("{} may go to {}", set.name, set.hosts.join(", ")))
            }
            SecretVerb::List { tenant } => {
                self.secrets(&client.ask(Api::secrets, proto::SecretsRequest { tenant }).await?.secrets)
            }
            SecretVerb::Delete { name, tenant } => {
                let request = proto::DeleteSecretRequest { tenant, name: name.clone() };
                client.ask(Api::delete_secret, request).await?;
                self.done(&name, "is deleted")
            }
            SecretVerb::RotateKey { tenant } => {
                let request = proto::RotateSecretsKeyRequest { tenant };
                let rotated = client.ask(Api::rotate_secrets_key, request).await?;
                let line = format!("{} secrets are sealed with a new key", rotated.secrets);
                self.answer(&json::of(&rotated), &line)
            }
        }
    }

    fn secrets(&self, secrets: &[proto::Secret]) -> Outcome {
        let now = Now::measured();
        let row = |secret: &proto::Secret| {
            [
                Line::bold(&secret.name),
                secret.hosts.join(", ").into(),
                ago(secret.created_at.as_ref(), now).into(),
                ago(secret.changed_at.as_ref(), now).into(),
                if secret.is_open { "yes" } else { "no: the engine lacks the key" }.into(),
            ]
        };
        let columns = ["SECRET", "HOSTS", "CREATED", "CHANGED", "CAN BE OPENED"];
        self.list(secrets.iter().map(json::of), &Table::new(columns, secrets.iter().map(row)), "no secrets")
    }
}
