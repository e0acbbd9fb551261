//! `--compressed`: what the server made smaller, as it was.

use std::{error::Error, io, pin::Pin};

use async_compression::futures::bufread::{
    BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use futures_util::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use http::{HeaderMap, header::CONTENT_ENCODING};

use crate::failed::{Failed, explain};

/// The codings that are asked for.
pub(crate) const CODINGS: &str = "gzip, deflate, br, zstd";
/// As in curl. Each can make the body a thousand times larger.
const MOST: usize = 5;

pub(crate) type Reader = Pin<Box<dyn AsyncBufRead + Send>>;

/// The body without the codings that the head names, the one applied last first.
pub(crate) async fn decoded(headers: &HeaderMap, mut body: Reader) -> Result<Reader, Failed> {
    let lines = headers.get_all(CONTENT_ENCODING).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let mut codings: Vec<_> = names.map(|name| name.trim_ascii().to_ascii_lowercase()).collect();
    codings.retain(|coding| !matches!(&**coding, b"" | b"identity" | b"none"));
    if codings.len() > MOST {
        return Err(Failed::new(61, "the response is encoded more than five times"));
    }
    for coding in codings.iter().rev() {
        // A response to HEAD names the coding of a body that it does not have.
        let Some(&first) = body.fill_buf().await.map_err(|error| unread(&error))?.first() else {
            break;
        };
        body = match &**coding {
            b"gzip" | b"x-gzip" => {
                let mut decoder = GzipDecoder::new(body);
                decoder.multiple_members(true);
                buffered(decoder)
            }
            // It means zlib's format. Some servers send what is inside of it.
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

/// The failure of the transfer, or that of a decoder.
pub(crate) fn unread(error: &io::Error) -> Failed {
    if error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<hyper::Error>) {
        explain(error)
    } else {
        Failed::new(61, format!("cannot decode the body: {error}"))
    }
}
