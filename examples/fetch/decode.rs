//! `--compressed`: decompresses the response's body.

use std::{error::Error, io, pin::Pin};

use async_compression::futures::bufread::{
    BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use futures_util::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use http::{HeaderMap, header::CONTENT_ENCODING};

use crate::failed::{Failed, explain};

/// The content codings that a request asks for.
pub(crate) const CODINGS: &str = "gzip, deflate, br, zstd";
/// The most codings of one body, as in curl. Each can make the body a thousand times larger.
const MOST: usize = 5;

pub(crate) type Reader = Pin<Box<dyn AsyncBufRead + Send>>;

/// Removes the codings that the head names from the body, beginning with the last one.
pub(crate) async fn decoded(headers: &HeaderMap, mut body: Reader) -> Result<Reader, Failed> {
    let lines = headers.get_all(CONTENT_ENCODING).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let mut codings: Vec<_> = names.map(|name| name.trim_ascii().to_ascii_lowercase()).collect();
    codings.retain(|coding| !matches!(&**coding, b"" | b"identity" | b"none"));
    if codings.len() > MOST {
        return Err(Failed::new(61, "the response is encoded more than five times"));
    }
    for coding in codings.iter().rev() {
        // A response to HEAD names a coding, but has no body.
        let Some(&first) = body.fill_buf().await.map_err(|error| unread(&error))?.first() else {
            break;
        };
        body = match &**coding {
            b"gzip" | b"x-gzip" => {
                let mut decoder = GzipDecoder::new(body);
                decoder.multiple_members(true);
                buffered(decoder)
            }
            // `deflate` means zlib's format. Some servers send the raw data without zlib's header.
            b"deflate" if first & 0x0f == 8 => buffered(ZlibDecoder::new(body)),
            b"deflate" => buffered(DeflateDecoder::new(body)),
            b"br" => buffered(BrotliDecoder::new(body)),
            b"zstd" => {
                let mut decoder = ZstdDecoder::new(body);
                decoder.multiple_members(true);
                buffered(decoder)
            }
            _ => return Err(Failed::new(61, format!("unknown content coding; known: {CODINGS}"))),
        };
    }
    Ok(body)
}

fn buffered(decoder: impl AsyncRead + Send + 'static) -> Reader {
    Box::pin(BufReader::new(decoder))
}

/// Tells a failure of the transfer from a failure of a decoder.
pub(crate) fn unread(error: &io::Error) -> Failed {
    if error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<hyper::Error>) {
        explain(error)
    } else {
        Failed::new(61, format!("cannot decode the body: {error}"))
    }
}
