//! Writes the response as it arrives.

use std::{io, path::Path};

use futures_util::{AsyncReadExt, TryStreamExt};
use http::{Response, response::Parts};
use http_body::Body as _;
use http_body_util::BodyDataStream;
use hyper::{body::Incoming, ext::ReasonPhrase};
use tokio::{
    fs::File,
    io::{AsyncWrite, AsyncWriteExt, stdout},
};

use crate::{
    args::Args,
    decode::{Reader, decoded, unread},
    failed::Failed,
    progress::Progress,
};

pub(crate) async fn write(
    response: Response<Incoming>,
    output: Option<&Path>,
    args: &Args,
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
    let (head, body) = response.into_parts();
    if args.include {
        sink.write_all(&self::head(&head)).await.map_err(unwritable)?;
        sink.flush().await.map_err(unwritable)?;
    }
    let length = body.size_hint().exact().filter(|_| !args.compressed);
    let mut progress = Progress::new(length, args.silent, path.is_some());
    let stream = BodyDataStream::new(body).map_err(io::Error::other);
    let mut body: Reader = Box::pin(stream.into_async_read());
    if args.compressed {
        body = decoded(&head.headers, body).await?;
    }
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let read = tokio::select! {
            read = body.read(&mut buffer) => read.map_err(|error| unread(&error))?,
            () = progress.due() => {
                progress.show();
                continue;
            }
        };
        if read == 0 {
            return Ok(());
        }
        // Flushed each time, so that a reader sees every piece, and an error belongs to the piece
        // that caused it.
        sink.write_all(&buffer[..read]).await.map_err(unwritable)?;
        sink.flush().await.map_err(unwritable)?;
        progress.add(read);
    }
}

fn head(head: &Parts) -> Vec<u8> {
    let reason = match head.extensions.get::<ReasonPhrase>() {
        Some(reason) => reason.as_bytes(),
        None => head.status.canonical_reason().unwrap_or_default().as_bytes(),
    };
    let mut text = format!("{:?} {} ", head.version, head.status.as_str()).into_bytes();
    text.extend_from_slice(reason);
    for (name, value) in &head.headers {
        text.extend_from_slice(format!("\r\n{name}: ").as_bytes());
        text.extend_from_slice(value.as_bytes());
    }
    text.extend_from_slice(b"\r\n\r\n");
    text
}
