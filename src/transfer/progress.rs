//! How far it is, for whoever waits: a bar on a terminal, and now and then a line elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// After how many lines it is told anew where there is no terminal.
const EVERY: u64 = 100_000;

/// One pass over something.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    done: u64,
}

impl Progress {
    /// Begins: `what` is done to so many lines, or to nobody knows how many.
    #[must_use]
    pub fn begin(what: &'static str, lines: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(lines, ProgressDrawTarget::stderr());
        let template = match lines {
            Some(_) => "{msg} {wide_bar} {pos}/{len} lines, {per_sec}, {eta} left",
            None => "{msg} {pos} lines, {per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self { bar, what, done: 0 }
    }

    /// So many lines are done.
    pub fn done(&mut self, lines: u64) {
        self.bar.set_position(lines);
        if self.bar.is_hidden() && lines / EVERY > self.done / EVERY {
            match self.bar.length() {
                Some(all) => eprintln!("{}: {lines} of {all} lines", self.what),
                None => eprintln!("{}: {lines} lines", self.what),
            }
        }
        self.done = lines;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
