//! The Markdown pages: their links and paths exist.

use std::path::{Path, PathBuf};

use crate::rows;

const PAGES: [&str; 15] = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "benches/README.md",
    "docs/design.md",
    "docs/story.md",
    "examples/fetch/README.md",
    "examples/proxy/README.md",
    "tests/README.md",
    "src/guide/clients.md",
    "src/guide/compatibility.md",
    "src/guide/credentials.md",
    "src/guide/proxies_and_meshes.md",
    "src/guide/security.md",
];

/// The page on docs.rs of this crate's guide.
const GUIDE: &str = "https://docs.rs/tower-outbound/latest/tower_outbound/guide/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The targets of all Markdown links of a page, and each path between backticks.
fn named(page: &str) -> impl Iterator<Item = (&'static str, String)> {
    let text = std::fs::read_to_string(root().join(page)).expect(page);
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to);
    let links = links.map(|to| ("link", to.to_owned()));
    // Outside of blocks of code.
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    let spans = prose.flat_map(|line| line.split('`').skip(1).step_by(2));
    let folders =
        ["src/", "tests/", "examples/", "benches/", "ecosystem/", "docs/", "fuzz/", ".ci/"];
    let paths = spans
        .filter(|span| folders.iter().any(|folder| span.starts_with(folder)))
        .filter_map(|span| span.split(' ').next())
        .map(|path| ("path", path.to_owned()));
    links.chain(paths).collect::<Vec<_>>().into_iter()
}

/// The file of a link in this repository. `None` for other sites.
fn file(page: &str, kind: &str, to: &str) -> Option<PathBuf> {
    let to = to.split('#').next().unwrap_or_default();
    if let Some(rest) = to.strip_prefix(GUIDE) {
        let name = rest.trim_end_matches("index.html").trim_end_matches('/');
        let name = if name.is_empty() { "mod.rs".to_owned() } else { format!("{name}.md") };
        return Some(root().join("src/guide").join(name));
    }
    match kind {
        _ if to.starts_with("https://") || to.is_empty() => None,
        // The compiler's own links.
        "link" if ["crate::", "Self::"].iter().any(|of| to.starts_with(of)) => None,
        "link" => Some(root().join(page).parent().expect("a folder").join(to)),
        _ => Some(root().join(to)),
    }
}

#[test]
fn what_a_page_links_to_or_names_is_there() {
    let rows = PAGES.into_iter().flat_map(|page| named(page).map(move |named| (page, named)));
    rows::hold(rows, |(page, (kind, to))| match file(page, kind, &to) {
        Some(file) if !file.exists() => Err(format!("{page}: the {kind} {to} leads nowhere")),
        _ => Ok(()),
    });
}

#[test]
fn each_page_of_the_guide_is_in_its_list() {
    let list = std::fs::read_to_string(root().join("src/guide/mod.rs")).unwrap();
    let pages = std::fs::read_dir(root().join("src/guide")).unwrap();
    let names = pages.filter_map(|entry| {
        entry.unwrap().file_name().to_str()?.strip_suffix(".md").map(str::to_owned)
    });
    rows::hold(names, |name| {
        let said = (
            list.contains(&format!("[`{name}`]")),
            list.contains(&format!("    {name}\n")) || list.contains(&format!("pub mod {name}")),
        );
        (name, said, (true, true))
    });
}
