//! The RPCs as the contract describes them, and calls to them that need no generated client.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost_reflect::{DescriptorPool, DynamicMessage, EnumValueDescriptor, FileDescriptor, MethodDescriptor, Value};
use tenantry::pb;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status};

use super::person::Person;

/// Everything that the contract says, with options and comments.
pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(pb::DESCRIPTOR_SET).expect("sound descriptors"));

/// Every RPC of our own services.
pub(crate) fn methods() -> Vec<Method> {
    let own = POOL.services().filter(|service| service.full_name().starts_with("tenantry."));
    own.flat_map(|service| service.methods().map(Method).collect::<Vec<_>>()).collect()
}

/// What stands above something in a proto.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let file = file.file_descriptor_proto();
    let mut places = file.source_code_info.iter().flat_map(|info| &info.location);
    let place = places.find(|place| place.path == path);
    place.map(|place| place.leading_comments().to_owned()).unwrap_or_default()
}

/// The reasons of refusals, each with the code that its comment begins with.
pub(crate) fn reasons() -> &'static BTreeMap<String, Code> {
    static REASONS: LazyLock<BTreeMap<String, Code>> = LazyLock::new(|| {
        let reasons = POOL.get_enum_by_name("tenantry.v1.ErrorReason").expect("the reasons");
        let code = |value: &EnumValueDescriptor| {
            let comment = comment(&reasons.parent_file(), value.path());
            let word = comment.trim().split('.').next().unwrap_or_default().to_owned();
            // The words are those of `Code`, written otherwise.
            let spelt = |code: Code| format!("{code:?}").to_uppercase();
            (1..=16).map(Code::from).find(|code| spelt(*code) == word.replace('_', ""))
        };
        let name = |value: &EnumValueDescriptor| value.name().trim_start_matches("ERROR_REASON_").to_owned();
        reasons.values().filter_map(|value| Some((name(&value), code(&value)?))).collect()
    });
    &REASONS
}

/// An RPC.
#[derive(Clone, Debug)]
pub(crate) struct Method(pub(crate) MethodDescriptor);

/// What an RPC says that it needs of its caller, as it stands in the proto.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requires {
    pub(crate) permission: i32,
    pub(crate) permission_for_others: i32,
    pub(crate) user: bool,
    pub(crate) service: bool,
    pub(crate) newcomer: bool,
}

impl Method {
    /// `/tenantry.v1.MembershipService/GetMember`.
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.0.parent_service().full_name(), self.0.name())
    }

    /// `MembershipService/GetMember`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.0.parent_service().name(), self.0.name())
    }

    /// Whether its request has a field.
    pub(crate) fn takes(&self, field: &str) -> bool {
        self.0.input().get_field_by_name(field).is_some()
    }

    /// Whether it changes nothing.
    pub(crate) fn reads(&self) -> bool {
        self.0
            .options()
            .get_field_by_name("idempotency_level")
            .is_some_and(|level| level.as_ref() == &Value::EnumNumber(1))
    }

    /// What it needs of its caller; nothing when it does not say.
    pub(crate) fn requires(&self) -> Option<Requires> {
        let option = POOL.get_extension_by_name("tenantry.v1.requires").expect("the option");
        let options = self.0.options();
        if !options.has_extension(&option) {
            return None;
        }
        let said = options.get_extension(&option);
        let said = said.as_message().expect("a message");
        let number = |field: &str| said.get_field_by_name(field).and_then(|value| value.as_enum_number());
        let flag = |field: &str| said.get_field_by_name(field).and_then(|value| value.as_bool());
        Some(Requires {
            permission: number("permission").unwrap_or_default(),
            permission_for_others: number("permission_for_others").unwrap_or_default(),
            user: flag("user").unwrap_or_default(),
            service: flag("service").unwrap_or_default(),
            newcomer: flag("newcomer").unwrap_or_default(),
        })
    }

    /// A request with these fields, as far as it has them, and no others.
    pub(crate) fn request(&self, fields: &[(&str, Value)]) -> Vec<u8> {
        let mut request = DynamicMessage::new(self.0.input());
        for (field, value) in fields.iter().filter(|(field, _)| self.takes(field)) {
            request.set_field_by_name(field, value.clone());
        }
        request.encode_to_vec()
    }

    /// Whether its answer is a stream.
    pub(crate) fn streams(&self) -> bool {
        self.0.is_server_streaming()
    }

    /// Calls it. Of a stream, the beginning is the answer.
    pub(crate) async fn call(&self, caller: &Person, request: Vec<u8>) -> Result<(), Status> {
        assert!(!self.0.is_client_streaming(), "{}: nobody has taught the tests to send a stream", self.name());
        call(caller, &self.path(), request, self.streams()).await
    }
}

/// Calls whatever there may be at a path.
pub(crate) async fn call(caller: &Person, path: &str, request: Vec<u8>, streams: bool) -> Result<(), Status> {
    let mut client = Grpc::new(InterceptedService::new(caller.channel.clone(), caller.identity.clone()));
    client.ready().await.expect("a server to call");
    let path = path.parse().expect("a path");
    if streams {
        client.server_streaming(Request::new(request), path, Raw).await.map(drop)
    } else {
        client.unary(Request::new(request), path, Raw).await.map(drop)
    }
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}
