//! The programs that are compared, each in its own directory, on ports of the loopback.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub(crate) struct Upstream {
    child: Child,
    address: SocketAddr,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let mut child = itself().arg("upstream").stdout(Stdio::piped()).spawn().expect("itself");
        let address = said(child.stdout.take().expect("a pipe"), "", "\n");
        Self { child, address }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Whether its requests belong to a tenant.
    pub(crate) tenant: bool,
    child: Child,
    directory: TempDir,
}

/// Starts a proxy, under callgrind or not. `None` if it or valgrind is not installed.
pub(crate) type Start = fn(&Upstream, bool) -> Option<Proxy>;

pub(crate) const STARTS: &[Start] = &[nginx, haproxy, bare, ours, ours_with_a_tenant];

pub(crate) fn all(upstream: &Upstream) -> impl Iterator<Item = Proxy> {
    STARTS.iter().filter_map(|start| start(upstream, false))
}

impl Proxy {
    /// The CPU time of the process, its threads and its children so far.
    pub(crate) fn cpu(&self) -> Duration {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        let of_thread = |thread: fs::DirEntry| -> Option<u64> {
            let line = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            line.split(' ').next()?.parse().ok()
        };
        let processes = std::iter::once(pid).chain(children);
        let threads = processes.filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
        let nanos = threads.flatten().flatten().filter_map(of_thread).sum();
        Duration::from_nanos(nanos)
    }

    /// Ends it, and returns what callgrind has counted.
    pub(crate) fn collected(mut self) -> Option<u64> {
        self.end();
        let profile = fs::read_to_string(self.directory.path().join("profile")).ok()?;
        let line = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
        line.trim().parse().ok()
    }

    fn end(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.end();
        }
    }
}

fn itself() -> Command {
    Command::new(env::current_exe().expect("this program"))
}

/// The address between these words in the first line.
fn said(output: impl std::io::Read, before: &str, after: &str) -> SocketAddr {
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).expect("a line");
    let address = line.strip_prefix(before).and_then(|rest| rest.split(after).next());
    address.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("an address: {line}"))
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.map(|place| place.join(name)).find(|path| path.is_file())
}

/// That program, by itself or under callgrind.
fn command(program: &Path, directory: &Path, is_counted: bool) -> Option<Command> {
    if !is_counted {
        return Some(Command::new(program));
    }
    let mut command = Command::new(installed("valgrind")?);
    let profile = directory.join("profile").display().to_string();
    command
        .args(["-q", "--tool=callgrind", &format!("--callgrind-out-file={profile}")])
        .arg(program);
    Some(command)
}

/// A port that was free a moment ago, for programs that cannot report which port they have.
fn port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

fn await_listener(address: SocketAddr) {
    let end = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < end, "no one listens on {address}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn nginx(upstream: &Upstream, is_counted: bool) -> Option<Proxy> {
    let program = installed("nginx")?;
    let directory = tempfile::tempdir().expect("a directory");
    let (place, address) = (directory.path().display(), port());
    // callgrind counts one process.
    let workers = if is_counted { "master_process off;" } else { "worker_processes 2;" };
    let config = format!(
        "daemon off; {workers} pid {place}/pid; error_log stderr crit;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            keepalive_requests 1000000000;
            client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
            fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
            upstream up {{ server {up}; keepalive 128; keepalive_requests 1000000000; }}
            server {{
                listen {address} backlog=1024;
                location / {{
                    proxy_pass http://up;
                    proxy_http_version 1.1;
                    proxy_set_header Connection \"\";
                    proxy_set_header Via \"1.1 nginx\";
                    proxy_set_header Forwarded 'for=$remote_addr;host=\"$http_host\";proto=http';
                    proxy_set_header X-Forwarded-For $remote_addr;
                    proxy_set_header X-Forwarded-Host $http_host;
                    proxy_set_header X-Forwarded-Proto http;
                    proxy_hide_header Set-Cookie;
                }}
            }}
        }}",
        up = upstream.address
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, config).expect("a file");
    let child = command(&program, directory.path(), is_counted)?
        .arg("-p")
        .arg(directory.path())
        .arg("-c")
        .arg(&file)
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    await_listener(address);
    Some(Proxy { name: "nginx", address, tenant: false, child, directory })
}

fn haproxy(upstream: &Upstream, is_counted: bool) -> Option<Proxy> {
    let program = installed("haproxy")?;
    let directory = tempfile::tempdir().expect("a directory");
    let address = port();
    let config = format!(
        "global
    nbthread {threads}
    maxconn 1024
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend clients
    bind {address}
    default_backend up
backend up
    http-request set-header Via \"1.1 haproxy\"
    http-request set-header Forwarded 'for=%[src];host=\"%[req.hdr(host)]\";proto=http'
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Proto http
    http-response del-header Set-Cookie
    server up {up}
",
        threads = if is_counted { 1 } else { 2 },
        up = upstream.address
    );
    let file = directory.path().join("haproxy.cfg");
    fs::write(&file, config).expect("a file");
    let child = command(&program, directory.path(), is_counted)?
        .arg("-db")
        .arg("-f")
        .arg(&file)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    await_listener(address);
    Some(Proxy { name: "haproxy", address, tenant: false, child, directory })
}

/// `bare.rs`.
pub(crate) fn bare(upstream: &Upstream, is_counted: bool) -> Option<Proxy> {
    let directory = tempfile::tempdir().expect("a directory");
    let program = env::current_exe().expect("this program");
    let mut child = command(&program, directory.path(), is_counted)?
        .args(["bare", &upstream.address.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let address = said(child.stdout.take().expect("a pipe"), "", "\n");
    Some(Proxy { name: "bare hyper", address, tenant: false, child, directory })
}

fn ours(upstream: &Upstream, is_counted: bool) -> Option<Proxy> {
    example("examples/proxy", false, upstream, is_counted)
}

fn ours_with_a_tenant(upstream: &Upstream, is_counted: bool) -> Option<Proxy> {
    example("with a tenant's jar", true, upstream, is_counted)
}

fn example(
    name: &'static str,
    tenant: bool,
    upstream: &Upstream,
    is_counted: bool,
) -> Option<Proxy> {
    let directory = tempfile::tempdir().expect("a directory");
    let table = directory.path().join("table.toml");
    let text = format!(
        "tenants = [\"ann\", \"bob\"]\n[[mount]]\nprefix = \"http://127.0.0.1\"\nupstream = \"http://{}\"\n",
        upstream.address
    );
    fs::write(&table, text).expect("a file");
    let mut child = command(built(), directory.path(), is_counted)?
        .arg(&table)
        .args(["--threads", "2", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let address = said(child.stderr.take().expect("a pipe"), "proxy: clients on ", ",");
    Some(Proxy { name, address, tenant, child, directory })
}

/// The example, built with the same profile as this program.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--profile", "bench"])
            .args(["--features", "serde", "--example", "proxy"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "cargo builds the example");
        let itself = env::current_exe().expect("this program");
        itself.parent().and_then(Path::parent).expect("target/release/deps").join("examples/proxy")
    })
}
