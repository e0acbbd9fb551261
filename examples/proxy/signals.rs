//! SIGHUP reloads the table. SIGTERM and Ctrl-C end the proxy. Windows has only Ctrl-C.

pub(crate) use platform::Signals;

pub(crate) enum Event {
    #[cfg_attr(windows, allow(dead_code))]
    Reload,
    End,
}

#[cfg(unix)]
mod platform {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::Event;

    pub(crate) struct Signals {
        hangup: Signal,
        interrupt: Signal,
        terminate: Signal,
    }

    impl Signals {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self {
                hangup: signal(SignalKind::hangup())?,
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            })
        }

        pub(crate) async fn next(&mut self) -> Event {
            tokio::select! {
                _ = self.hangup.recv() => Event::Reload,
                _ = self.interrupt.recv() => Event::End,
                _ = self.terminate.recv() => Event::End,
            }
        }
    }
}

#[cfg(windows)]
mod platform {
    use std::io;

    use tokio::signal::windows::{CtrlC, ctrl_c};

    use super::Event;

    pub(crate) struct Signals(CtrlC);

    impl Signals {
        pub(crate) fn new() -> io::Result<Self> {
            ctrl_c().map(Self)
        }

        pub(crate) async fn next(&mut self) -> Event {
            match self.0.recv().await {
                Some(()) | None => Event::End,
            }
        }
    }
}
