//! Who may call what, who may touch whom, and that the stored role decides.

mod design;
mod own_policy;
mod stored_role;
mod sweep;
mod whom;
