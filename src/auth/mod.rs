//! Who may call what.
//!
//! *Vocabulary.* A **caller** makes the call: a user acting in one organization, a user acting for themselves, or a trusted
//! service. A **permission** is what an RPC needs, said beside it in the proto. A **role** is a named bundle of permissions
//! with the roles that its holders may give and take; the **role policy** is all of them. The **actor** is the caller's
//! *stored* membership.
//!
//! *Control flow.* [`layer`] stands in front of every service: from the path it knows what the RPC requires
//! ([`permission`]), from the metadata who calls ([`caller`], [`token`]), and asks the policy ([`policy`]) whether the role
//! that came with the call may. What it knows it leaves with the request as [`scope::Authorized`]. Inside the operation
//! that opens a [`scope::Scope`], for the caller's own organization only, and the stored role decides again: the one in the
//! metadata may be stale.
//!
//! *What it refuses to do.* It lets nothing through that it does not know: a method without a requirement does not build, a
//! path that is none is UNIMPLEMENTED, a request without its proof is a defect and never access. It does not decide who may
//! touch whom; that is a rule of each operation.

pub mod caller;
pub mod identity;
pub mod layer;
pub mod permission;
pub mod policy;
pub mod scope;
pub mod token;
