//! Draws the figures as SVG, for light and dark pages.

use std::{fs, io, path::Path};

use super::{
    NAMES,
    report::{BODIES, Report},
};

// Middle tones, which are visible on both.
const TEXT: &str = "#848d97";
const OTHERS: &str = "#9aa4b2";
const OURS: &str = "#2f81f7";
const LABELS: f64 = 300.0;
const BARS: f64 = 360.0;
const ROW: f64 = 26.0;

struct Bar<'a> {
    label: &'a str,
    length: f64,
    text: String,
}

/// The name of each chart's file, and what is in it.
pub(crate) fn drawn(report: &Report) -> [(&'static str, String); 3] {
    let clients = &report.clients;
    let cost = clients.iter().filter_map(|figures| {
        let ratio = figures.instructions_outside_malloc_ratio?;
        Some(Bar { label: &figures.client, length: ratio, text: format!("{ratio:.2}") })
    });
    let cost =
        chart("Instructions of a request outside malloc, hyper-util alone = 1", cost.collect());

    let large = BODIES.iter().position(|body| *body == "65536").expect("a body of 64 KiB");
    let connections = clients.iter().filter_map(|figures| {
        let retried = figures.retried[large].1.as_ref()?;
        let count = retried.connections_per_100;
        Some(Bar { label: &figures.client, length: count as f64, text: count.to_string() })
    });
    let title = "New connections per 100 requests that are answered 503, 503, 200 (64 KiB each)";
    let connections = chart(title, connections.collect());

    let memory = clients.iter().filter_map(|figures| {
        let kib = figures.in_flight.as_ref().ok()?.heap / 1024.0;
        Some(Bar { label: &figures.client, length: kib, text: format!("{kib:.1}") })
    });
    let title = "Heap of a request in flight with its connection, KiB";
    let memory = chart(title, memory.collect());
    [("cost.svg", cost), ("connections.svg", connections), ("memory.svg", memory)]
}

/// Writes each chart into the directory.
pub(crate) fn draw(report: &Report, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    drawn(report).into_iter().try_for_each(|(file, svg)| fs::write(directory.join(file), svg))
}

fn chart(title: &str, bars: Vec<Bar<'_>>) -> String {
    let longest = bars.iter().map(|bar| bar.length).fold(f64::MIN_POSITIVE, f64::max);
    let (width, height) = (LABELS + BARS + 60.0, ROW * (bars.len() as f64 + 1.5));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"{TEXT}\" role=\"img\">\n\
         <title>{title}</title>\n<text x=\"0\" y=\"16\" font-weight=\"bold\">{title}</text>\n"
    );
    for (nth, Bar { label, length, text }) in bars.into_iter().enumerate() {
        let y = ROW * (nth as f64 + 1.2);
        // A bar of no length would look like a gap.
        let long = (length / longest * BARS).max(1.0);
        let colour = if label == NAMES[NAMES.len() - 1] { OURS } else { OTHERS };
        let (middle, label_end, text_start) = (y + 14.0, LABELS - 10.0, LABELS + long + 6.0);
        let label = label.replace('<', "&lt;").replace('>', "&gt;");
        svg += &format!(
            "<text x=\"{label_end}\" y=\"{middle:.1}\" text-anchor=\"end\">{label}</text>\n\
             <rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{long:.1}\" height=\"18\" fill=\"{colour}\"/>\n\
             <text x=\"{text_start:.1}\" y=\"{middle:.1}\">{text}</text>\n"
        );
    }
    svg + "</svg>\n"
}
