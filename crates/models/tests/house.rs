//! The documents and the code agree: who depends on whom, the list of servers, every link and every item that a link names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use models::CATALOGUE;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// The document with the map of dependencies, in fenced blocks of these two kinds.
const MAP: &str = "docs/architecture.md";
const FENCES: [(&str, DependencyKind); 2] =
    [("dependencies", DependencyKind::Normal), ("dev-dependencies", DependencyKind::Development)];

#[test]
fn crates_depend_on_one_another_as_the_map_says() {
    let packages = packages();
    for (fence, kind) in FENCES {
        let (rows, on_the_map) = parse_map(&fenced_block(fence));
        let mut in_manifests = BTreeSet::new();
        for package in &packages {
            let row = row_of(&package.name, &rows);
            assert!(rows.contains(&row) || kind != DependencyKind::Normal, "{MAP} has no row for {row}");
            let ours = package.dependencies.iter().filter(|dependency| dependency.path.is_some() && dependency.kind == kind);
            in_manifests.extend(ours.map(|dependency| (row.clone(), dependency.name.clone())));
        }
        let unknown: Vec<_> = in_manifests.difference(&on_the_map).collect();
        assert!(unknown.is_empty(), "a Cargo.toml has {fence} that {MAP} does not allow: {unknown:?}");
        let unused: Vec<_> = on_the_map.difference(&in_manifests).collect();
        assert!(unused.is_empty(), "{MAP} allows {fence} that no Cargo.toml has: {unused:?}");
    }
}

#[test]
fn catalogue_crates_and_readme_list_the_same_servers() {
    let catalogue: Vec<_> = CATALOGUE.iter().map(|model| (model.program(), model.about.to_owned())).collect();
    let mut readme = table_rows(&read("README.md"));
    readme.retain(|cells| cells[0].starts_with("echo-"));
    let readme: Vec<_> = readme.into_iter().map(|mut cells| (cells.remove(0), cells.remove(0))).collect();
    assert_eq!(readme, catalogue, "README.md (left) and the catalogue differ in a server or in what they say about it");

    let is_server = |name: &str| name.starts_with("echo-") && !["echo-server", "echo-protocol"].contains(&name);
    let servers = packages().into_iter().filter(|package| is_server(&package.name));
    let described: BTreeMap<_, _> = servers.map(|package| (package.name.to_string(), package.description.unwrap())).collect();
    assert_eq!(described, catalogue.into_iter().collect(), "the crates (left) and the catalogue differ, or their descriptions");
}

#[test]
fn links_lead_to_files_headings_and_items_that_exist() {
    let mut broken = Vec::new();
    for document in documents() {
        for link in links(&read(&document)) {
            let (path, heading) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let folder = Path::new(&document).parent().unwrap();
            let target = if path.is_empty() { document.clone() } else { folder.join(path).to_str().unwrap().to_owned() };
            let item = link.code.filter(|_| path.ends_with(".rs"));
            let is_broken = !root().join(&target).exists()
                || !heading.is_empty() && !anchors(&read(&target)).contains(heading)
                || item.as_ref().is_some_and(|item| !defines(&read(&target), item));
            if is_broken {
                broken.push(format!("{document}: {} in {}", item.unwrap_or_default(), link.target));
            }
        }
    }
    assert!(broken.is_empty(), "links to files, headings or items that do not exist: {broken:#?}");
}

#[test]
fn one_server_alone_uses_an_async_runtime() {
    let runtimes = ["tokio", "async-std", "smol", "monoio", "glommio", "compio"];
    let uses = |package: &Package| package.dependencies.iter().any(|dependency| runtimes.contains(&&*dependency.name));
    let users: Vec<String> =
        packages().iter().filter(|package| uses(package)).map(|package| package.name.to_string()).collect();
    assert_eq!(users, [models::TOKIO.program()]);
}

#[test]
fn paths_in_the_map_exist() {
    for event in parse(&read(MAP)) {
        let Event::Code(code) = event else { continue };
        let is_path = code.contains('/') && !code.starts_with('/') && !code.contains([' ', '*', '{']);
        assert!(!is_path || root().join(&*code).exists(), "{MAP} names {code}, which does not exist");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The packages of this workspace, as their manifests describe them.
fn packages() -> Vec<Package> {
    MetadataCommand::new().current_dir(root()).no_deps().exec().unwrap().packages
}

/// The Markdown files that people write; what a run writes is tested elsewhere.
fn documents() -> Vec<String> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let docs = docs.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let others = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md", "results/sample/README.md"];
    docs.chain(others.map(String::from)).collect()
}

fn parse(markdown: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(markdown, Options::ENABLE_TABLES)
}

/// The text of the only fenced block of that kind in the map's document.
fn fenced_block(kind: &str) -> String {
    let text = read(MAP);
    let is_start =
        |event: &Event| matches!(event, Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) if **info == *kind);
    let mut events = parse(&text).skip_while(|event| !is_start(event)).skip(1);
    match events.next() {
        Some(Event::Text(block)) => block.into_string(),
        _ => panic!("{MAP} has no block ```{kind}"),
    }
}

/// The names of a map's rows, and its arrows from a row to a crate. A line is `a, b -> c, d`, or has no arrow if `a` and `b` depend
/// on no other crate.
fn parse_map(block: &str) -> (Vec<String>, BTreeSet<(String, String)>) {
    let (mut rows, mut arrows) = (Vec::new(), BTreeSet::new());
    for line in block.lines() {
        let (from, to) = line.split_once("->").unwrap_or((line, ""));
        for row in from.split(',').filter_map(|name| name.split_whitespace().next()) {
            rows.push(row.to_owned());
            arrows.extend(
                to.split(',').map(str::trim).filter(|name| !name.is_empty()).map(|name| (row.to_owned(), name.to_owned())),
            );
        }
    }
    (rows, arrows)
}

/// The row for a crate: the one with its name, or else the one with a pattern such as `echo-*` that fits, or else none.
fn row_of(name: &str, rows: &[String]) -> String {
    let fits = |row: &&String| row.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix));
    let named = rows.iter().find(|row| *row == name).or_else(|| rows.iter().find(fits));
    named.map_or(name, String::as_str).to_owned()
}

/// The text of each cell in each row of all tables, heads included.
fn table_rows(markdown: &str) -> Vec<Vec<String>> {
    let (mut rows, mut cell): (Vec<Vec<String>>, _) = (Vec::new(), None::<String>);
    for event in parse(markdown) {
        match event {
            Event::Start(Tag::TableHead | Tag::TableRow) => rows.push(Vec::new()),
            Event::Start(Tag::TableCell) => cell = Some(String::new()),
            Event::Text(text) | Event::Code(text) => cell.iter_mut().for_each(|cell| cell.push_str(&text)),
            Event::End(TagEnd::TableCell) => rows.last_mut().unwrap().extend(cell.take()),
            _ => {}
        }
    }
    rows
}

/// A link or an image.
struct Link {
    target: String,
    /// What it names, if its text begins with something in backticks.
    code: Option<String>,
}

/// Links and images that do not leave the repository.
fn links(markdown: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut events = parse(markdown).peekable();
    while let Some(event) = events.next() {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                let code = match events.peek() {
                    Some(Event::Code(code)) => Some(code.to_string()),
                    _ => None,
                };
                links.push(Link { target: dest_url.into_string(), code });
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                let sources = html.split("src=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
                links.extend(sources.map(|target| Link { target, code: None }));
            }
            _ => {}
        }
    }
    links.retain(|link| !link.target.contains("://"));
    links
}

/// The anchors that GitHub makes of the headings.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings =
        markdown.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept =
        |heading: String| heading.replace(' ', "-").chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
    headings.map(kept).collect()
}

/// Whether Rust code defines an item of that name.
fn defines(code: &str, item: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "const", "static", "type", "mod", "macro_rules!"];
    let ends_word = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    kinds.iter().any(|kind| code.split(&format!("{kind} {item}")).skip(1).any(ends_word))
}
