//! Secrets of tenants.

use cerebelum_server::{json, proto};

use super::ApiCommand;
use super::identity::read_hidden;
use crate::args::SecretVerb;
use crate::client::Api;
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
                let set = client.ask(Api::set_secret, request).await?;
                match self.global.json {
                    true => self.out.say(&json::secret(&set)),
                    false => self.done(&set.name, &format!("may go to {}", set.hosts.join(", "))),
                }
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
                match self.global.json {
                    true => self.out.say(&json::rotated(rotated)),
                    false => self.out.say(&format!("{} secrets are sealed with a new key", rotated.secrets)),
                }
            }
        }
    }

    fn secrets(&self, secrets: &[proto::Secret]) -> Outcome {
        if self.global.json {
            return self.out.array(&secrets.iter().map(json::secret).collect::<Vec<_>>());
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
