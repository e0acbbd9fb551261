//! A progress bar on the terminal, for long transfers.

use std::{
    future,
    io::{IsTerminal, stderr, stdout},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep_until};

/// A shorter transfer shows no bar.
const AFTER: Duration = Duration::from_secs(2);

pub(crate) struct Progress {
    /// Hidden at first. It already counts then, so that the speed is right.
    bar: ProgressBar,
    /// When to show the bar, if it is not shown yet.
    due: Option<Instant>,
}

impl Progress {
    /// `length` is that of the body, if it is known. There is no bar if the body is written to the
    /// terminal.
    pub(crate) fn new(length: Option<u64>, silent: bool, to_file: bool) -> Self {
        let wanted = !silent && stderr().is_terminal() && (to_file || !stdout().is_terminal());
        let template = match length {
            Some(_) => "{bytes} of {total_bytes} {wide_bar} {bytes_per_sec}, {eta} left",
            None => "{bytes} {spinner} {bytes_per_sec}, {elapsed}",
        };
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, due: wanted.then(|| Instant::now() + AFTER) }
    }

    /// Waits until it is time to [`show`](Self::show) the bar, or for ever.
    pub(crate) async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => future::pending().await,
        }
    }

    pub(crate) fn show(&mut self) {
        self.due = None;
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        // The bar also moves while nothing arrives.
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }
}

impl Drop for Progress {
    /// Removes the bar, so that the next line on the terminal replaces it.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
