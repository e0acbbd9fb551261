//! How the proxy ends.

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::*;

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (upstream, arrived, _release) = held().await;
    let mut proxy = Proxy::start(&mount("/held", upstream, "")).await;
    let mut socket = TcpStream::connect(proxy.public).await.unwrap();
    socket.write_all(b"GET /held HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    timeout(PATIENCE, arrived.notified()).await.expect("a request at the upstream");
    proxy.signal("TERM").await;
    assert_eq!(proxy.line().await, "proxy: no more requests are taken");
    proxy.signal("TERM").await;
    let ended = (
        vec!["proxy: ended by a second signal; requests were still in flight".to_owned()],
        Some(1),
    );
    assert_eq!(proxy.ended().await, ended);
}

#[tokio::test]
async fn the_end_waits_for_requests_in_flight_and_takes_no_more() {
    let (upstream, arrived, release) = held().await;
    let mut proxy = Proxy::start(&mount("/held", upstream, "")).await;
    let request = in_flight(&proxy, &arrived).await;
    proxy.signal("TERM").await;
    assert_eq!(proxy.line().await, "proxy: no more requests are taken");
    // The listener closes a moment later.
    let refused = async {
        while TcpStream::connect(proxy.public).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("a closed port");
    release.notify_one();
    assert_eq!(request.await.unwrap().body, "held");
    assert_eq!(proxy.ended().await, (vec![], Some(0)));
}

#[tokio::test]
async fn the_end_waits_no_longer_than_the_grace() {
    let (upstream, arrived, _release) = held().await;
    let mut proxy = Proxy::start_with(&mount("/held", upstream, ""), &["--grace", "0"]).await;
    // By a socket, which minds no end.
    let mut socket = TcpStream::connect(proxy.public).await.unwrap();
    socket.write_all(b"GET /held HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    timeout(PATIENCE, arrived.notified()).await.expect("a request at the upstream");
    proxy.signal("INT").await;
    assert_eq!(proxy.line().await, "proxy: no more requests are taken");
    let (said, status) = proxy.ended().await;
    assert_eq!(
        (said, status),
        (vec!["proxy: requests were still in flight after 0 s".to_owned()], Some(1))
    );
}
