//! The methods of the gRPC service, with messages made of its descriptors: the names of real objects in every field.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use test_engine::Engine;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{Case, OF_ONES_OWN, Objects, Outcome, WORKFLOW};
use crate::tenants::Raw;

/// The longest that an answer may take: a stream that is opened is not refused at once.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// A call over gRPC.
pub(super) struct Call {
    pub(super) case: Case,
    message: Vec<u8>,
    /// Whether it changes nothing and is answered to the end.
    ends: bool,
}

impl Call {
    pub(super) fn ends(&self) -> bool {
        self.ends
    }
}

/// A connection to an engine.
pub(super) struct Grpc {
    runtime: Runtime,
    channel: Channel,
}

impl Grpc {
    pub(super) fn to(engine: &Engine) -> Self {
        let runtime = Runtime::new().unwrap();
        let channel = Channel::from_shared(engine.url().to_owned()).unwrap();
        let channel = runtime.block_on(channel.connect()).unwrap();
        Self { runtime, channel }
    }

    pub(super) fn send(&self, call: &Call, token: &str) -> Outcome {
        let ended = self.runtime.block_on(async {
            let answered = tokio::time::timeout(ANSWERED_WITHIN, answers(self.channel.clone(), call, token)).await;
            answered.unwrap_or_else(|_| panic!("{}: it does not end", call.case.sent))
        });
        let is_proper = |code| match code {
            Code::PermissionDenied | Code::NotFound => true,
            Code::FailedPrecondition => call.case.operation == "Upload",
            _ => false,
        };
        match ended {
            Ok(said) => Outcome { is_refused: false, is_proper: true, said },
            Err(refused) => Outcome {
                is_refused: true,
                is_proper: is_proper(refused.code()),
                said: format!("{refused:?} {}", String::from_utf8_lossy(refused.details())),
            },
        }
    }
}

/// All messages of an answer, as far as they are text.
async fn answers(channel: Channel, call: &Call, token: &str) -> Result<String, Status> {
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
    grpc.ready().await.unwrap();
    let mut request = Request::new(futures::stream::iter([call.message.clone()]));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let path = format!("/cerebelum.v1.Engine/{}", call.case.operation).parse().unwrap();
    let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
    let mut said = String::new();
    while let Some(message) = answers.message().await? {
        said += &String::from_utf8_lossy(&message);
    }
    Ok(said)
}

/// What stands in a field.
enum Fill {
    /// In every message: each of these in turn.
    Needed(Vec<Value>),
    /// In a message of its own.
    Further(Value),
    /// Nothing that could name an object.
    Empty,
}

#[derive(Clone)]
enum Value {
    Text(String),
    Number(u64),
    Bytes(Vec<u8>),
}

impl Value {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// The field with this number, as it is on the wire.
    fn encoded(&self, number: i32) -> Vec<u8> {
        const NUMBER: usize = 0;
        const DELIMITED: usize = 2;
        let mut bytes = Vec::new();
        let mut put = |number: usize| prost::encode_length_delimiter(number, &mut bytes).unwrap();
        let key = usize::try_from(number).unwrap() << 3;
        let data = match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(data) => data,
            Self::Number(value) => {
                put(key | NUMBER);
                put(usize::try_from(*value).unwrap());
                return bytes;
            }
        };
        put(key | DELIMITED);
        put(data.len());
        bytes.extend_from_slice(data);
        bytes
    }
}

/// Every method of the service, with every object that its message can name, and with each further field by itself.
pub(super) fn all(objects: &Objects) -> Vec<Call> {
    let set = FileDescriptorSet::decode(cerebelum_server::proto::FILE_DESCRIPTOR_SET).unwrap();
    let messages: BTreeMap<String, &DescriptorProto> = set
        .file
        .iter()
        .flat_map(|file| {
            file.message_type.iter().map(|message| (format!(".{}.{}", file.package(), message.name()), message))
        })
        .collect();
    let reads = reads(objects);
    let mut found = Vec::new();
    for method in set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method) {
        for (fields, message) in written(objects, messages[method.input_type()]) {
            let sent = format!("{} {fields:?}", method.name());
            let has = |field: &str, value: &str| fields.iter().any(|(name, said)| name == field && said == value);
            // These lists are of one's own things unless they name another's.
            let is_answered = OF_ONES_OWN.contains(&method.name()) && !has("tenant", "default");
            let of_open = has("execution_id", &objects.open);
            let goes_on = of_open && (has("follow", "1") || matches!(method.name(), "Watch" | "Wait"));
            let ends = reads.contains(&method.name().to_owned()) && !goes_on;
            // Where nothing matches there is nothing to do.
            let is_pointless = method.name() == "StartBulk" || fields.iter().any(|(name, _)| name == "cursor");
            let case = Case { operation: method.name().to_owned(), sent, is_answered, is_pointless };
            found.push(Call { case, message, ends });
        }
    }
    found
}

/// The methods that change nothing: over REST they are a `GET`.
fn reads(objects: &Objects) -> Vec<String> {
    let document = crate::rest::document(&objects.engine);
    let items = document["paths"].as_object().unwrap().values();
    items.filter_map(|item| Some(item["get"]["operationId"].as_str()?.to_owned())).collect()
}

/// The fields of a message with their values, and the message.
type Written = (Vec<(String, String)>, Vec<u8>);

fn written(objects: &Objects, message: &DescriptorProto) -> Vec<Written> {
    let mut needed: Vec<Written> = vec![(Vec::new(), Vec::new())];
    let mut further = Vec::new();
    let with = |(fields, bytes): &Written, field: &FieldDescriptorProto, value: &Value| {
        let fields = [fields.as_slice(), &[(field.name().to_owned(), value.shown())]].concat();
        (fields, [bytes.as_slice(), &value.encoded(field.number())].concat())
    };
    for field in &message.field {
        match fill(objects, message.name(), field.name()) {
            Fill::Needed(values) => {
                needed = needed.iter().flat_map(|one| values.iter().map(|value| with(one, field, value))).collect();
            }
            Fill::Further(value) => further.push((field, value)),
            Fill::Empty => {}
        }
    }
    let each = further.iter().flat_map(|(field, value)| needed.iter().map(|one| with(one, field, value)));
    let each: Vec<Written> = each.collect();
    [needed, each].concat()
}

/// What stands in a field: an object where it can name one.
fn fill(objects: &Objects, message: &str, field: &str) -> Fill {
    let Objects { open, ended, approval, link, job, token, view, component, proposed, secret, cursors, .. } = objects;
    let texts = |texts: &[&str]| Fill::Needed(texts.iter().map(|text| Value::Text((*text).to_owned())).collect());
    let further = |text: &str| Fill::Further(Value::Text(text.to_owned()));
    let question = ["ApproveRequest", "RejectRequest", "CreateApprovalLinkRequest", "ApprovalLinksRequest"];
    match (message, field) {
        ("StartRequest", "execution_id") | ("ApprovalsRequest", "execution_id") => further(open),
        (_, "execution_id") => texts(&[open, ended]),
        ("StartRequest", "workflow") => texts(&[WORKFLOW]),
        ("StartRequest", "input") => texts(&["[\"theirs\"]"]),
        ("StartRequest", "attributes" | "delay_ms" | "deadline_ms") => Fill::Empty,
        ("RevokeApprovalLinkRequest", "id") => texts(&[approval, open]),
        (message, "id") if question.contains(&message) => texts(&[approval, open]),
        ("RevokeTokenRequest", "id") => texts(&[token]),
        (_, "link_id") => texts(&[link]),
        ("StartBulkRequest", "bulk_id" | "filter" | "at_most" | "signal" | "force") => Fill::Empty,
        ("StartBulkRequest", "operation") => texts(&["terminate"]),
        (_, "bulk_id") => texts(&[job]),
        ("AcceptComponentRequest" | "ShowComponentRequest" | "RemoveComponentRequest", "name") => {
            texts(&[component, &proposed.0])
        }
        ("AcceptComponentRequest", "digest") => texts(&[&proposed.1]),
        ("RemoveComponentRequest", "digest") => further(&proposed.1),
        ("UploadRequest", "name") => texts(&[component]),
        ("UploadRequest", "file_name") => Fill::Empty,
        ("UploadRequest", "chunk") => Fill::Needed(vec![Value::Bytes(b"not a component".to_vec())]),
        ("DeleteViewRequest", "name") => texts(&[view]),
        ("DeleteSecretRequest", "name") => texts(&[secret]),
        ("SetSecretRequest", "name") => texts(&["THEIRS"]),
        ("SetSecretRequest", "value") => texts(&["x"]),
        ("SetSecretRequest", "hosts") => texts(&["a.example"]),
        ("SetHostsRequest", "hosts") | ("SetQuotasRequest", "changes") | ("SaveViewRequest", "filter") => Fill::Empty,
        ("CreateTenantRequest" | "SaveViewRequest" | "CreateTokenRequest" | "CreateApprovalLinkRequest", "name") => {
            texts(&["theirs"])
        }
        ("SignalRequest", "name") => texts(&["unread"]),
        (
            "SuspendTenantRequest"
            | "DeleteTenantRequest"
            | "ShowTenantRequest"
            | "SetQuotasRequest"
            | "SetHostsRequest",
            "name",
        ) => texts(&["default"]),
        ("CreateTokenRequest", "role") => texts(&["viewer"]),
        ("ListRequest", "cursor") => further(&cursors.executions),
        ("ApprovalsRequest", "cursor") => further(&cursors.approvals),
        ("AuditRequest", "cursor") => further(&cursors.audit),
        ("AuditRequest", "operation") => further("Start"),
        ("AuditRequest", "caller") => further("ada"),
        (_, "object" | "parent") => further(open),
        (_, "id_prefix") => further("ours"),
        (_, "workflow") => further(WORKFLOW),
        (_, "status") => further("failed"),
        (_, "waits_for") => further("approval"),
        (_, "failure") => further("failure"),
        (_, "tenant") => further("default"),
        ("CountRequest", "filter") => Fill::Further(Value::Bytes(Value::Text(open.clone()).encoded(4))),
        (_, "limit" | "run" | "follow" | "force" | "lift" | "shared" | "up_to" | "timeout_ms") => {
            Fill::Further(Value::Number(1))
        }
        (_, "last_ms") => Fill::Further(Value::Number(3_600_000)),
        (_, "attributes" | "since" | "until" | "after" | "only" | "expires_in_ms" | "columns") => Fill::Empty,
        (_, "data" | "comment" | "by" | "reason") => Fill::Empty,
        other => panic!("of the field {other:?} this test knows nothing"),
    }
}
