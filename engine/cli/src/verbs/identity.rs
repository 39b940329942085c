//! Tenants, tokens, and the token that this user has.

use std::io::{BufRead, IsTerminal, Read};
use std::path::PathBuf;

use cerebelum_server::{json, proto};
use cerebelum_worker::{Config, TokenRequest, create_token_in};
use rustix::termios::{self, LocalModes, OptionalActions};

use super::ApiCommand;
use crate::args::{CreateToken, Login, TenantVerb, TokenVerb};
use crate::client::{Api, Client, Server};
use crate::contexts::{Context, Contexts};
use crate::exit::{CliError, Code, Outcome};
use crate::out::note;
use crate::render::{Line, Now, Table, ago};

/// The most bytes that are read of what is not shown. The engine takes less.
const HIDDEN_BYTES_MAX: u64 = 64 << 10;

impl ApiCommand {
    /// Manages tenants.
    pub(crate) async fn tenant(&self, verb: TenantVerb) -> Outcome {
        let mut client = self.client().await?;
        let (tenant, done) = match verb {
            TenantVerb::List => return self.tenants(&mut client).await,
            TenantVerb::Show { name } => {
                return self.tenant_detail(&client.ask(Api::show_tenant, proto::ShowTenantRequest { name }).await?);
            }
            TenantVerb::SetQuota { name, changes } => {
                let change = |(name, max)| proto::set_quotas_request::Change { name, max };
                let request = proto::SetQuotasRequest { name, changes: changes.into_iter().map(change).collect() };
                return self.tenant_detail(&client.ask(Api::set_quotas, request).await?);
            }
            TenantVerb::SetHosts { name, hosts, default } => {
                let hosts = (!default).then_some(proto::Hosts { hosts });
                let request = proto::SetHostsRequest { name, hosts };
                return self.tenant_detail(&client.ask(Api::set_hosts, request).await?);
            }
            TenantVerb::Create { name } => {
                (client.ask(Api::create_tenant, proto::CreateTenantRequest { name }).await?, "exists now")
            }
            TenantVerb::Suspend { name, lift } => {
                let request = proto::SuspendTenantRequest { name, lift };
                let done = if lift { "is not suspended any more" } else { "is suspended" };
                (client.ask(Api::suspend_tenant, request).await?, done)
            }
            TenantVerb::Delete { name } => {
                (client.ask(Api::delete_tenant, proto::DeleteTenantRequest { name }).await?, "is being deleted")
            }
        };
        self.answer(&json::of(&tenant), &format!("tenant {} {done}", tenant.name))
    }

    fn tenant_detail(&self, detail: &proto::TenantDetail) -> Outcome {
        if self.global.json {
            return self.out.say(&json::of(detail));
        }
        let row = |quota: &proto::Quota| {
            let used = quota.used.map_or_else(|| "-".to_owned(), |used| used.to_string());
            let is_set = if quota.is_set { "yes" } else { "default" };
            [Line::bold(&quota.name), used.into(), quota.max.to_string().into(), is_set.into()]
        };
        let table = Table::new(["QUOTA", "USED", "MAX", "SET"], detail.quotas.iter().map(row));
        let tenant = detail.tenant.clone().unwrap_or_default();
        let suspended = match (&tenant.deleted_at, &tenant.suspended_at) {
            (Some(_), _) => ", being deleted",
            (None, Some(_)) => ", suspended",
            (None, None) => "",
        };
        let hosts = match &detail.hosts {
            None => "what the engine's configuration says".to_owned(),
            Some(proto::Hosts { hosts }) if hosts.is_empty() => "none".to_owned(),
            Some(proto::Hosts { hosts }) => hosts.join(", "),
        };
        self.out.say(&format!("tenant {}{suspended}; steps may reach: {hosts}\n", tenant.name))?;
        self.out.show(&table.lines())
    }

    async fn tenants(&self, client: &mut Client) -> Outcome {
        let tenants = client.ask(Api::tenants, proto::TenantsRequest {}).await?.tenants;
        let now = Now::measured();
        let row = |tenant: &proto::Tenant| {
            [
                Line::bold(&tenant.name),
                tenant.number.to_string().into(),
                ago(tenant.created_at.as_ref(), now).into(),
                ago(tenant.suspended_at.as_ref(), now).into(),
                ago(tenant.deleted_at.as_ref(), now).into(),
            ]
        };
        let table = Table::new(["TENANT", "NUMBER", "CREATED", "SUSPENDED", "BEING DELETED"], tenants.iter().map(row));
        self.list(tenants.iter().map(json::of), &table, "no tenants")
    }

    /// Manages tokens.
    pub(crate) async fn token(&self, verb: TokenVerb) -> Outcome {
        match verb {
            TokenVerb::Create(args) => self.create_token(args).await,
            TokenVerb::List { tenant } => {
                self.tokens(&self.client().await?.ask(Api::tokens, proto::TokensRequest { tenant }).await?.tokens)
            }
            TokenVerb::Revoke { id, tenant } => {
                let request = proto::RevokeTokenRequest { id: id.clone(), tenant };
                self.client().await?.ask(Api::revoke_token, request).await?;
                self.done(&id, "is revoked")
            }
        }
    }

    async fn create_token(&self, args: CreateToken) -> Outcome {
        let role = args.role.as_str().to_owned();
        let expires_in_ms = args.expires.map(|span| span.ms);
        let database = database(args.data, args.database);
        let created = match database {
            Some(database) => {
                let request = TokenRequest { tenant: args.tenant, role, name: args.name, expires_in_ms };
                let created = create_token_in(&database, &request).await;
                created.map_err(|refused| CliError::new(Code::Refused, refused.to_string()))?.into()
            }
            None => {
                let request = proto::CreateTokenRequest { tenant: args.tenant, role, name: args.name, expires_in_ms };
                self.client().await?.ask(Api::create_token, request).await?
            }
        };
        if self.global.json {
            return self.out.say(&json::of(&created));
        }
        let token = created.token.unwrap_or_default();
        note(&format!(
            "a token for {}, {} in tenant {}; shown this once: keep it, or give it to `cerebelum login`",
            token.name, token.role, token.tenant
        ));
        self.out.say(&created.secret)
    }

    fn tokens(&self, tokens: &[proto::Token]) -> Outcome {
        let now = Now::measured();
        let row = |token: &proto::Token| {
            [
                Line::bold(&token.id),
                token.role.as_str().into(),
                token.name.as_str().into(),
                ago(token.created_at.as_ref(), now).into(),
                ago(token.expires_at.as_ref(), now).into(),
                ago(token.last_used_at.as_ref(), now).into(),
                ago(token.revoked_at.as_ref(), now).into(),
            ]
        };
        let columns = ["TOKEN", "ROLE", "NAME", "CREATED", "EXPIRES", "LAST USED", "REVOKED"];
        let none = "no tokens: the engine is open to this machine; `cerebelum token create` closes it";
        self.list(tokens.iter().map(json::of), &Table::new(columns, tokens.iter().map(row)), none)
    }

    /// Says who the caller is.
    pub(crate) async fn whoami(&self) -> Outcome {
        let caller = self.client().await?.ask(Api::who_am_i, proto::WhoAmIRequest {}).await?;
        let name = caller.name.as_deref().unwrap_or("as every client on this machine: the engine has no tokens");
        self.answer(&json::of(&caller), &format!("{} in tenant {}, {name}", caller.role, caller.tenant))
    }

    /// Keeps a token in this user's configuration, once the engine has accepted it.
    pub(crate) async fn login(mut self, args: Login) -> Outcome {
        let server = Server::of(&self.global)?;
        let token = match &self.global.token {
            Some(token) => token.clone(),
            None => {
                read_hidden("token", "`cerebelum token create` shows it once; it is not shown here")?.trim().to_owned()
            }
        };
        (self.global.url, self.global.context) = (Some(server.url.clone()), None);
        self.global.token = Some(token.clone());
        let caller = self.client().await?.ask(Api::who_am_i, proto::WhoAmIRequest {}).await?;
        if caller.token_id.is_none() {
            let why = format!("the engine at {} has no tokens: every client on its machine is an admin", server.url);
            return Err(CliError::new(Code::Refused, why));
        }
        let host = server.url.split_once("://").map_or(server.url.as_str(), |(_, rest)| rest);
        let name = args.name.unwrap_or_else(|| match caller.tenant.as_str() {
            "default" => host.to_owned(),
            tenant => format!("{tenant}@{host}"),
        });
        let mut contexts = Contexts::read()?;
        contexts.keep(name.clone(), Context { url: server.url, token, ca: server.ca, client_cert: server.client_cert });
        contexts.write()?;
        self.done(&name, &format!("is the current context: {} in tenant {}", caller.role, caller.tenant))
    }

    /// Lists the contexts, or makes one the current one.
    pub(crate) fn context(&self, name: Option<String>) -> Outcome {
        let mut contexts = Contexts::read()?;
        if let Some(name) = name {
            contexts.choose(&name)?;
            contexts.write()?;
            return self.done(&name, "is the current context");
        }
        let row = |(name, context, is_current): (&str, &Context, bool)| {
            [Line::bold(name), context.url.as_str().into(), if is_current { "*" } else { "" }.into()]
        };
        let table = Table::new(["CONTEXT", "URL", "CURRENT"], contexts.all().map(row));
        self.list(contexts.lines_of_json(), &table, "no contexts: `cerebelum login` makes one")
    }
}

/// The database in which a token is created without an engine.
fn database(data: Option<PathBuf>, database: Option<String>) -> Option<String> {
    database.or_else(|| data.map(|data| Config::new(data).database))
}

/// What stands on stdin, without the last line break. On a terminal one line is asked for, and not shown.
pub(super) fn read_hidden(what: &str, hint: &str) -> Outcome<String> {
    let stdin = std::io::stdin();
    let unreadable = |e: std::io::Error| CliError::usage(format!("cannot read the {what}: {e}"));
    if !stdin.is_terminal() {
        let mut text = String::new();
        stdin.lock().take(HIDDEN_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        return not_empty(
            what,
            text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text)),
        );
    }
    let shown = termios::tcgetattr(&stdin).ok();
    if let Some(mut hidden) = shown.clone() {
        note(&format!("{what} ({hint}):"));
        hidden.local_modes.remove(LocalModes::ECHO);
        // A terminal that cannot do it shows the token.
        let _ = termios::tcsetattr(&stdin, OptionalActions::Now, &hidden);
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = shown {
        let _ = termios::tcsetattr(&stdin, OptionalActions::Now, &shown);
    }
    read.map_err(unreadable)?;
    not_empty(what, line.trim())
}

fn not_empty(what: &str, text: &str) -> Outcome<String> {
    match text {
        "" => Err(CliError::usage(format!("no {what} on stdin: pipe it in"))),
        text => Ok(text.to_owned()),
    }
}
