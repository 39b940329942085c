//! Secrets of tenants.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use super::identity::read_hidden;
use crate::args::SecretVerb;
use crate::exit::Outcome;
use crate::render::{Line, Now, Style, Table, ago};

impl ApiCommand {
    /// Manages secrets.
    pub(crate) async fn secret(&self, verb: SecretVerb) -> Outcome {
        let mut client = self.client().await?;
        match verb {
            SecretVerb::Set { name, hosts, tenant } => {
                let value = read_hidden("value", "it is not shown here")?;
                let request = proto::SetSecretRequest { tenant, name, value, hosts };
                let set = client.engine.set_secret(request).await.map_err(|e| client.stop(&e))?.into_inner();
                match self.global.json {
                    true => self.out.say(&json::of(&set)),
                    false => self.done(&set.name, &format!("may go to {}", set.hosts.join(", "))),
                }
            }
            SecretVerb::List { tenant } => {
                let answer = client.engine.secrets(proto::SecretsRequest { tenant }).await;
                self.secrets(&answer.map_err(|e| client.stop(&e))?.into_inner().secrets)
            }
            SecretVerb::Delete { name, tenant } => {
                let request = proto::DeleteSecretRequest { tenant, name: name.clone() };
                client.engine.delete_secret(request).await.map_err(|e| client.stop(&e))?;
                self.done(&name, "is deleted")
            }
            SecretVerb::RotateKey { tenant } => {
                let answer = client.engine.rotate_secrets_key(proto::RotateSecretsKeyRequest { tenant }).await;
                let rotated = answer.map_err(|e| client.stop(&e))?.into_inner();
                match self.global.json {
                    true => self.out.say(&json::of(&rotated)),
                    false => self.out.say(&format!("{} secrets are sealed with a new key", rotated.secrets)),
                }
            }
        }
    }

    fn secrets(&self, secrets: &[proto::Secret]) -> Outcome {
        if self.global.json {
            return self.out.array(&secrets.iter().map(json::of).collect::<Vec<_>>());
        }
        if secrets.is_empty() {
            return self.out.say("no secrets");
        }
        let now = Now::measured();
        let mut table = Table::new(&["SECRET", "HOSTS", "CREATED", "CHANGED", "CAN BE OPENED"]);
        for secret in secrets {
            let cell = |text: &str| Line::new(Style::Plain, text);
            table.row(vec![
                Line::new(Style::Bold, &secret.name),
                cell(&secret.hosts.join(", ")),
                cell(&ago(secret.created_at.as_ref(), now)),
                cell(&ago(secret.changed_at.as_ref(), now)),
                cell(if secret.is_open { "yes" } else { "no: the engine lacks the key" }),
            ]);
        }
        self.out.show(&table.lines())
    }
}
