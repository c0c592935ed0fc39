//! Compiles the protos without protoc and turns what they say of each RPC into code.
//!
//! Three things come out besides the usual messages and services: the encoded descriptor set for reflection, the table
//! *path → requirement* that the authorization layer enforces, and the traits by which the engine reads the fields that
//! requests have in common. An RPC that does not say what it needs of its caller breaks the build here.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use prost_reflect::{DescriptorPool, ExtensionDescriptor, MethodDescriptor, ReflectMessage, Value};

const PROTOS: [&str; 11] = [
    "tenantry/v1/permission.proto",
    "tenantry/v1/error_reason.proto",
    "tenantry/v1/organization_service.proto",
    "tenantry/v1/membership_service.proto",
    "tenantry/v1/billing_service.proto",
    "tenantry/v1/workspace_service.proto",
    "tenantry/v1/monitoring_service.proto",
    "tenantry/v1/event_service.proto",
    "tenantry/v1/delivery_service.proto",
    "tenantry/v1/webhook_service.proto",
    "tenantry/testing/v1/clock_service.proto",
];

const OPTION: &str = "tenantry.v1.requires";

#[expect(clippy::disallowed_methods, reason = "cargo says where to write, and no setting of the service")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTOS)?;
    // The encoded form keeps custom options; prost's own types would drop them.
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptor.bin"), &encoded)?;
    // What a server shows that has no manual clock.
    let mut without_testing = protox::Compiler::new(["proto"])?;
    let released = PROTOS.iter().filter(|path| !path.starts_with("tenantry/testing/"));
    without_testing.include_imports(true).include_source_info(true).open_files(released)?;
    fs::write(out.join("descriptor_released.bin"), without_testing.encode_file_descriptor_set())?;

    let pool = DescriptorPool::decode(encoded.as_slice())?;
    fs::write(out.join("requirements.rs"), requirements(&pool)?)?;
    fs::write(out.join("requests.rs"), requests(&pool)?)?;

    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// One match arm for each RPC of our own services.
fn requirements(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let option = pool.get_extension_by_name(OPTION).ok_or("the option is gone")?;
    let mut table = String::from("match path {\n");
    for method in own_methods(pool) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        writeln!(
            table,
            "{path:?} => Some({}),",
            requirement(&method, &option).map_err(|fault| format!("{path}: {fault}"))?
        )?;
    }
    table.push_str("_ => None,\n}\n");
    Ok(table)
}

fn requirement(method: &MethodDescriptor, option: &ExtensionDescriptor) -> Result<String, String> {
    let options = method.options();
    if !options.has_extension(option) {
        return Err("no option (tenantry.v1.requires): say what it needs of its caller".into());
    }
    let value = options.get_extension(option);
    let said = value.as_message().ok_or("the option is no message")?;
    let flag = |name: &str| said.get_field_by_name(name).and_then(|value| value.as_bool()).unwrap_or(false);
    let permission = |name: &str| -> Option<String> {
        let field = said.descriptor().get_field_by_name(name)?;
        let number = said.get_field(&field).as_enum_number()?;
        let kind = field.kind();
        let name = kind.as_enum()?.get_value(number)?.name().trim_start_matches("PERMISSION_").to_owned();
        (number != 0).then_some(name)
    };
    let (user, service, newcomer) = (flag("user"), flag("service"), flag("newcomer"));
    let needed = permission("permission");
    let for_others = permission("permission_for_others");
    if needed.is_none() && !user && !service {
        return Err("neither a permission nor `user` nor `service`: nobody could call it".into());
    }
    if needed.is_some() && user {
        return Err("a permission and `user` exclude each other".into());
    }
    if newcomer && !user {
        return Err("`newcomer` says more of a `user`: it needs that too".into());
    }
    if for_others.is_some() && (needed.is_none() || !reads_only(method)) {
        return Err("permission_for_others is for RPCs that have a permission and only read".into());
    }
    let organization = method.input().get_field_by_name("organization_id").is_some_and(|field| field.number() == 1);
    if (needed.is_some() || newcomer) != organization && !(organization && service && !user) {
        return Err(
            "a request that concerns one organization has organization_id = 1, and a permission, `service` or \
                    `newcomer`"
                .into(),
        );
    }
    let code = |permission: Option<String>| match permission {
        Some(name) => format!("Some(Permission::{})", camel(&name)),
        None => "None".into(),
    };
    Ok(format!(
        "Requirement {{ rpc: ({:?}, {:?}), permission: {}, permission_for_others: {}, user: {user}, service: {service}, \
         streams: {} }}",
        method.parent_service().name(),
        method.name(),
        code(needed),
        code(for_others),
        method.is_server_streaming()
    ))
}

/// Implements the request traits of `src/pb.rs` for every request that has their fields.
fn requests(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    let option = pool.get_extension_by_name(OPTION).ok_or("the option is gone")?;
    for method in
        own_methods(pool).filter(|method| method.parent_service().parent_file().package_name() == "tenantry.v1")
    {
        let input = method.input();
        let has = |field: &str| input.get_field_by_name(field).is_some();
        if has("organization_id") {
            let about = if has_option(&method, &option, "permission_for_others") {
                if !has("user_id") {
                    return Err(format!("{}: permission_for_others needs a user_id", input.name()).into());
                }
                "fn about(&self) -> Option<&str> { Some(self.user_id.as_str()).filter(|user_id| !user_id.is_empty()) }"
            } else {
                ""
            };
            writeln!(
                code,
                "impl OrganizationRequest for {} {{ fn organization_id(&self) -> &str {{ &self.organization_id }} {about} }}",
                input.name()
            )?;
        }
        if !reads_only(&method) {
            if !has("request_id") || !has("validate_only") {
                return Err(format!(
                    "{}: a request that may change something has request_id and validate_only",
                    input.name()
                )
                .into());
            }
            writeln!(
                code,
                "impl MutationRequest for {} {{ const METHOD: &'static str = {:?}; fn request_id(&self) -> &str {{ &self.request_id }} fn validate_only(&self) -> bool {{ self.validate_only }} fn without_request_id(&self) -> Self {{ Self {{ request_id: String::new(), ..self.clone() }} }} }}",
                input.name(),
                method.name()
            )?;
        }
    }
    Ok(code)
}

/// Whether a method says that it has no side effects.
fn reads_only(method: &MethodDescriptor) -> bool {
    method.options().get_field_by_name("idempotency_level").is_some_and(|level| *level == Value::EnumNumber(1))
}

/// Whether a method's requirement says something in this field.
fn has_option(method: &MethodDescriptor, option: &ExtensionDescriptor, field: &str) -> bool {
    let options = method.options();
    let value = options.get_extension(option);
    value.as_message().is_some_and(|said| said.has_field_by_name(field))
}

fn own_methods(pool: &DescriptorPool) -> impl Iterator<Item = MethodDescriptor> + '_ {
    pool.services()
        .filter(|service| service.full_name().starts_with("tenantry."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
}

/// `MEMBERS_CHANGE_ROLE` → `MembersChangeRole`, as prost names enum values.
fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let lower = word.to_ascii_lowercase();
            let mut letters = lower.chars();
            letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
        })
        .collect()
}
