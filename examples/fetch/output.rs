//! The response, written as it comes.

use std::{io, path::Path};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::{body::Incoming, ext::ReasonPhrase};
use tokio::{
    fs::File,
    io::{AsyncWrite, AsyncWriteExt, stdout},
};

use crate::failed::{Failed, explain};

pub(crate) async fn write(
    mut response: Response<Incoming>,
    output: Option<&Path>,
    include: bool,
) -> Result<(), Failed> {
    let path = output.filter(|path| *path != Path::new("-"));
    let unwritable = |error: io::Error| {
        let name = path.map_or("stdout".into(), Path::to_string_lossy);
        Failed::new(23, format!("cannot write to {name}: {error}"))
    };
    let mut sink: Box<dyn AsyncWrite + Unpin> = match path {
        Some(path) => Box::new(File::create(path).await.map_err(unwritable)?),
        None => Box::new(stdout()),
    };
    let mut bytes = Bytes::from(if include { head(&response) } else { Vec::new() });
    loop {
        // Flushed each time: a reader sees what there is, and an error belongs to what was just
        // written.
        sink.write_all(&bytes).await.map_err(unwritable)?;
        sink.flush().await.map_err(unwritable)?;
        bytes = match response.body_mut().frame().await {
            Some(frame) => frame.map_err(|error| explain(&error))?.into_data().unwrap_or_default(),
            None => return Ok(()),
        };
    }
}

fn head(response: &Response<Incoming>) -> Vec<u8> {
    let status = response.status();
    let reason = match response.extensions().get::<ReasonPhrase>() {
        Some(reason) => reason.as_bytes(),
        None => status.canonical_reason().unwrap_or_default().as_bytes(),
    };
    let mut head = format!("{:?} {} ", response.version(), status.as_str()).into_bytes();
    head.extend_from_slice(reason);
    for (name, value) in response.headers() {
        head.extend_from_slice(format!("\r\n{name}: ").as_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    head.extend_from_slice(b"\r\n\r\n");
    head
}
