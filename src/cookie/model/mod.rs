//! What a cookie is, which one may be stored, and which requests it is sent with. Values in, values
//! out: no lock, no atomics, no clock, no file.

pub(in crate::cookie) mod cookie;
pub(in crate::cookie) mod data;
mod date;
pub(in crate::cookie) mod id;
pub(in crate::cookie) mod origin;
pub(in crate::cookie) mod path;
pub(in crate::cookie) mod rules;
pub(in crate::cookie) mod same_site;
pub(in crate::cookie) mod set_cookie;
pub(in crate::cookie) mod shield;
pub(in crate::cookie) mod suffix;
pub(in crate::cookie) mod visit;
