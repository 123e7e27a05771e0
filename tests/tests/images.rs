//! The container images: the programs run in nothing but the root file systems that `tests/build-images` lays out, as the
//! user of the images. No container engine runs here: `chroot` takes its place, and what the Dockerfile adds is read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use tempfile::TempDir;
use vault_tests::certificates::Certificates;
use vault_tests::wait::{LONG, until};

/// The user of both images.
const USER: &str = "65532:65532";

/// Where the kubelet would write what a pod's names are looked up with.
const HOSTS: &str = "etc/hosts";
const RESOLVER: &str = "etc/resolv.conf";

/// Devices that every container has, by the OCI runtime specification, and their minor numbers. A program without shared
/// libraries gets its randomness from one.
const DEVICES: [(&str, u32); 3] = [("null", 3), ("random", 8), ("urandom", 9)];

/// Where the project is.
fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The two root file systems, built once, in the directory of their names.
fn images() -> &'static Path {
    static IMAGES: OnceLock<PathBuf> = OnceLock::new();
    IMAGES.get_or_init(|| {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root for chroot: run them with 'sudo -E ./tests/run images'"
        );
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
        let mut build = Command::new(project().join("tests/build-images"));
        build.arg(&directory).args(["--profile", "dev"]);
        let built = build.stdin(Stdio::null()).output().expect("bash is there");
        assert!(built.status.success(), "{}{}", text(&built.stdout), text(&built.stderr));
        directory
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The root file system of one image, to which a test may add files as the kubelet does, and no other test sees them.
struct Root(TempDir);

impl Root {
    fn of(image: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("image-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.expect("there is room for links");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
        // Hard links: what is put in the place of a file leaves the others alone.
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--link"]).arg(images().join(image).join(".")).arg(folder.path());
        assert!(copy.status().expect("cp is there").success(), "the root file system can be linked");
        let devices = folder.path().join("dev");
        std::fs::create_dir(&devices).expect("there is room");
        for (name, minor) in DEVICES {
            let (path, mode) = (devices.join(name), Mode::from_raw_mode(0o666));
            mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(1, minor))
                .expect("root makes devices");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("it is ours");
        }
        Self(folder)
    }

    /// With a file.
    fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(path);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, content).expect("there is room for small files");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("it is ours");
        self
    }

    /// A program in it, with no environment but what is given.
    fn command<T: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = T>) -> Command {
        let mut command = Command::new("chroot");
        command.arg(format!("--userspec={USER}")).arg("--groups=").arg(self.0.path());
        command.arg(format!("/usr/bin/{program}")).args(arguments).env_clear();
        command
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null());
        command
    }

    fn run<T: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = T>) -> Output {
        self.command(program, arguments).output().expect("chroot is there")
    }

    /// What a program writes that ends well.
    fn says<T: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = T>) -> String {
        let output = self.run(program, arguments);
        assert!(output.status.success(), "{program}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// A server with what it stores in memory, and its port.
    fn server<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> (Running, u16) {
        let own = ["--storage", "memory:", "--listen", "127.0.0.1:0", "--allow-anonymous"].map(OsStr::new);
        let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let mut command =
            self.command("vault-server", own.into_iter().chain(arguments.iter().map(|it| &**it)));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("chroot is there");
        let mut running = Running(child);
        let lines =
            BufReader::new(running.0.stdout.take().expect("it is a pipe")).lines().map_while(Result::ok);
        let port = lines.filter(|line| line.starts_with("listening on ")).find_map(|line| {
            line.rsplit_once(':')
                .and_then(|(_, port)| port.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok())
        });
        (running, port.expect("the server says where it listens"))
    }
}

/// A process that ends with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every path in a root file system but its devices, with its kind and mode.
fn listing(root: &Path) -> BTreeMap<String, (bool, u32)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("it is a directory") {
            let path = entry.expect("it can be read").path();
            let meta = std::fs::symlink_metadata(&path).expect("it is there");
            let name = path.strip_prefix(root).expect("it is below").to_string_lossy().into_owned();
            if name == "dev" {
                continue;
            }
            assert!(meta.is_dir() || meta.is_file(), "{name} is neither a directory nor a file");
            assert_eq!(
                (meta.uid(), meta.gid()),
                (0, 0),
                "{name} belongs to root, so that the user cannot write it"
            );
            all.insert(name, (meta.is_dir(), meta.mode() & 0o7777));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    all
}

#[test]
fn nothing_is_in_the_images_but_programs_certificates_and_names() {
    for (image, programs) in [("server", &["mvctl", "vault-server"][..]), ("operator", &["vault-operator"])] {
        let root = images().join(image);
        let common = [
            "etc",
            "etc/group",
            "etc/nsswitch.conf",
            "etc/passwd",
            "etc/ssl",
            "etc/ssl/certs",
            "etc/ssl/certs/ca-certificates.crt",
            "usr",
            "usr/bin",
        ];
        let programs_at = programs.iter().map(|program| format!("usr/bin/{program}"));
        let wanted: BTreeSet<_> = common.iter().map(|path| (*path).to_owned()).chain(programs_at).collect();
        let found = listing(&root);
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), wanted, "{image}");
        for (path, (is_directory, mode)) in &found {
            let is_program = path.starts_with("usr/bin/");
            assert_eq!(*mode, if *is_directory || is_program { 0o755 } else { 0o644 }, "{path}");
        }
        let certificates =
            std::fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).expect("it is text");
        assert!(certificates.matches("BEGIN CERTIFICATE").count() > 100);
        let users = std::fs::read_to_string(root.join("etc/passwd")).expect("it is text");
        assert!(users.contains("\nnonroot:x:65532:65532:"), "{users}");
        for program in programs {
            let size = std::fs::metadata(root.join("usr/bin").join(program)).expect("it is there").len();
            // Optimised ones are smaller.
            assert!(size < 200 << 20, "{program} has {size} bytes");
        }
    }
}

/// The types of the segments of a 64-bit ELF file: <https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html>.
fn segment_types(path: &Path) -> Vec<u32> {
    let bytes = std::fs::read(path).expect("it can be read");
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    assert_eq!(bytes[..6], *b"\x7fELF\x02\x01", "a little-endian 64-bit program");
    let (first, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).map(|index| u32::try_from(number(first + index * size, 4)).expect("four bytes")).collect()
}

#[test]
fn programs_need_no_shared_library_and_no_loader() {
    const LOAD: u32 = 1;
    const INTERPRETER: u32 = 3;
    for program in ["server/usr/bin/vault-server", "server/usr/bin/mvctl", "operator/usr/bin/vault-operator"]
    {
        let types = segment_types(&images().join(program));
        assert!(types.contains(&LOAD) && !types.contains(&INTERPRETER), "{program}: {types:?}");
    }
}

#[test]
fn programs_start_and_know_their_version() {
    let (server, operator) = (Root::of("server"), Root::of("operator"));
    for (root, program) in [(&server, "vault-server"), (&server, "mvctl"), (&operator, "vault-operator")] {
        assert_eq!(root.says(program, ["--version"]), format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
        assert!(root.says(program, ["--help"]).contains("Usage: "), "{program}");
    }
    let crds = operator.says("vault-operator", ["crds"]);
    assert_eq!(crds.matches("kind: CustomResourceDefinition\n").count(), 2);
    let output = operator.run("vault-operator", ["--listen", "127.0.0.1:0"]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("there is no API server"), "{said}");
}

#[test]
fn a_server_serves_and_writes_nowhere() {
    let root = Root::of("server").with(HOSTS, "127.0.0.1 localhost\n");
    let before = listing(root.0.path());
    let (mut running, port) = root.server(["--log-format", "json"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.0.id())).expect("it runs");
    assert!(status.contains("\nUid:\t65532\t65532\t65532\t65532\n"), "{status}");
    assert!(status.contains("\nGid:\t65532\t65532\t65532\t65532\n"), "{status}");
    let url = format!("http://127.0.0.1:{port}");
    let mvctl = |arguments: &[&str]| root.says("mvctl", ["--server", &url].iter().chain(arguments));
    mvctl(&["create", "orders"]);
    let mut append = root.command("mvctl", ["--server", &url, "append", "orders"]);
    let mut append = append
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chroot is there");
    std::io::Write::write_all(&mut append.stdin.take().expect("it is a pipe"), b"one\ntwo\n")
        .expect("it reads");
    assert!(append.wait().expect("it is ours").success());
    let read = mvctl(&["read", "orders"]);
    let values: Vec<_> = read.lines().filter_map(|line| line.rsplit('\t').next()).collect();
    assert_eq!(values, ["one", "two"], "{read}");
    let process = rustix::process::Pid::from_child(&running.0);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it is ours");
    assert_eq!(running.0.wait().expect("it is ours").code(), Some(0), "an orderly end");
    assert_eq!(listing(root.0.path()), before, "nothing was written");
}

#[test]
fn names_are_found_in_the_hosts_file() {
    let root = Root::of("server").with(HOSTS, "127.0.0.1 localhost\n127.0.0.1 vault.hosts.test\n");
    let (_running, port) = root.server::<&str>([]);
    let said = root.says("mvctl", ["--server", &format!("http://vault.hosts.test:{port}"), "status"]);
    assert!(said.contains("leader"), "{said}");
}

/// A name server on an address of its own: every IPv4 address that it is asked for is 127.0.0.1, and there is no other
/// record. It ends with the test program.
fn name_server() -> Ipv4Addr {
    let (socket, address) = (1..=254)
        .find_map(|last| {
            let address = Ipv4Addr::new(127, 53, 0, last);
            UdpSocket::bind((address, 53)).ok().map(|socket| (socket, address))
        })
        .expect("root may take port 53 of an address of loopback");
    std::thread::spawn(move || {
        const HEADER_BYTES: usize = 12;
        const A: [u8; 2] = [0, 1];
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            // Header, name, type, class; what comes behind is no question. RFC 1035, section 4.
            let name = question[HEADER_BYTES..length].iter().position(|byte| *byte == 0);
            let Some(end) = name.map(|name| HEADER_BYTES + name + 1 + 4).filter(|end| *end <= length) else {
                continue;
            };
            let is_a = question[end - 4..end - 2] == A;
            let mut answer = question[..2].to_vec();
            // A response, recursion desired and available, no error; one question, none or one answer.
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            answer.extend(&question[HEADER_BYTES..end]);
            if is_a {
                // The name is the question's; type, class, 60 seconds, four bytes.
                answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

#[test]
fn names_are_asked_of_the_name_server() {
    let asks = format!("search shop.svc.cluster.local\nnameserver {}\noptions ndots:5\n", name_server());
    let hosts = "127.0.0.1 localhost\n";
    let root = Root::of("server").with(HOSTS, hosts).with(RESOLVER, &asks);
    let (_running, port) = root.server::<&str>([]);
    let said = root.says("mvctl", ["--server", &format!("http://vault.shop.svc:{port}"), "status"]);
    assert!(said.contains("leader"), "{said}");

    // The operator finds an API server by its name: that somebody calls is enough here.
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.set_nonblocking(true).expect("it is ours");
    let port = listener.local_addr().expect("it listens").port();
    let config = format!(
        r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{{"name": "c", "cluster": {{"server": "http://api.cluster.test:{port}"}}}}],
            "contexts": [{{"name": "c", "context": {{"cluster": "c", "user": "u"}}}}],
            "users": [{{"name": "u", "user": {{}}}}]}}"#
    );
    let root = Root::of("operator").with(HOSTS, hosts).with(RESOLVER, &asks).with("etc/kubeconfig", config);
    let mut command = root.command("vault-operator", ["--listen", "127.0.0.1:0"]);
    command.env("KUBECONFIG", "/etc/kubeconfig").stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running(command.spawn().expect("chroot is there"));
    until("the operator calls the API server", LONG, || listener.accept().ok());
}

#[test]
fn authorities_are_those_of_the_image_or_of_a_file() {
    let certificates = Certificates::new();
    let read = |name: &str| std::fs::read(certificates.path(name)).expect("it was made");
    let root = Root::of("server").with(HOSTS, "127.0.0.1 localhost\n").with("etc/authority.pem", read("ca"));
    let root = root.with("etc/leaf.pem", read("leaf")).with("etc/key.pem", read("key"));
    let (_running, port) = root.server(["--tls-cert", "/etc/leaf.pem", "--tls-key", "/etc/key.pem"]);
    let url = format!("https://localhost:{port}");
    let arguments = ["--server", &url, "--timeout", "0s", "status"];

    let refused = root.run("mvctl", arguments);
    assert!(!refused.status.success(), "nobody vouches for the server");
    let said = text(&refused.stderr);
    assert!(said.to_lowercase().contains("certificate"), "{said}");

    let named = root.command("mvctl", arguments).env("SSL_CERT_FILE", "/etc/authority.pem").output();
    let named = named.expect("chroot is there");
    assert!(named.status.success(), "{}", text(&named.stderr));

    let root = root.with("etc/ssl/certs/ca-certificates.crt", read("ca"));
    root.says("mvctl", arguments);
}

/// The instructions of a Dockerfile, continued lines joined, by stage; the stage's `FROM` is its name's first.
fn stages(dockerfile: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let joined = dockerfile.replace("\\\n", " ");
    let mut stages = BTreeMap::<String, Vec<_>>::new();
    let mut stage = String::new();
    for line in joined.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (word, rest) = line.split_once(' ').expect("an instruction has an argument");
        if word == "FROM" {
            stage = rest.rsplit_once(" AS ").expect("each stage has a name").1.to_owned();
        }
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        stages.entry(stage.clone()).or_default().push((word.to_owned(), rest));
    }
    stages
}

#[test]
fn the_dockerfile_makes_of_them_what_is_tested_here() {
    let dockerfile = std::fs::read_to_string(project().join("Dockerfile")).expect("it is there");
    let stages = stages(&dockerfile);
    let all = |stage: &str, word: &str| -> Vec<&str> {
        stages[stage].iter().filter(|(it, _)| it == word).map(|(_, rest)| rest.as_str()).collect()
    };
    assert_eq!(stages.keys().collect::<Vec<_>>(), ["build", "operator", "server"]);
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert_eq!(all("build", "FROM"), [format!("rust:{rust}-bookworm AS build")]);
    let runs = all("build", "RUN");
    assert!(
        matches!(runs[..], [run] if run.ends_with("./tests/build-images /images --profile \"$PROFILE\"")),
        "{runs:?}"
    );
    assert_eq!(all("build", "ARG"), ["PROFILE=release"]);
    for (stage, program, ports) in
        [("server", "vault-server", "8480 8481"), ("operator", "vault-operator", "8080")]
    {
        assert_eq!(all(stage, "FROM"), [format!("scratch AS {stage}")]);
        assert_eq!(all(stage, "COPY"), [format!("--from=build /images/{stage}/ /")]);
        assert_eq!(all(stage, "USER"), [USER]);
        assert_eq!(all(stage, "ENTRYPOINT"), [format!("[\"/usr/bin/{program}\"]")]);
        assert_eq!(all(stage, "EXPOSE"), [ports]);
        assert!(all(stage, "RUN").is_empty() && all(stage, "CMD").is_empty());
        assert!(all(stage, "LABEL")[0].contains("org.opencontainers.image.licenses=\"BSD-3-Clause\""));
    }
}

/// What `.dockerignore` lets a builder see is enough for cargo.
#[test]
fn a_builder_is_sent_what_it_needs_and_no_more() {
    let (project, context) = (project(), vault_tests::server::temporary_directory());
    let ignored = std::fs::read_to_string(project.join(".dockerignore")).expect("it is there");
    assert!(ignored.lines().any(|line| line == "*"), "what is not named is not sent");
    for path in ignored.lines().filter_map(|line| line.strip_prefix('!')) {
        let to = context.path().join(path);
        std::fs::create_dir_all(to.parent().expect("it is in the context")).expect("there is room");
        // Links: what others build there may be large.
        std::os::unix::fs::symlink(project.join(path).canonicalize().expect("it is there"), to)
            .expect("there is room");
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version=1", "--no-deps"]);
    let output = cargo.current_dir(context.path()).output().expect("cargo runs this test");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found: BTreeSet<_> = std::fs::read_dir(context.path())
        .expect("it is a directory")
        .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
        .collect();
    let wanted = [
        "Cargo.lock",
        "Cargo.toml",
        "tests",
        "vault-client",
        "vault-format",
        "vault-operator",
        "vault-server",
    ];
    assert_eq!(found, wanted.map(str::to_owned).into());
}

#[test]
fn the_builder_explains_itself() {
    let run = |arguments: &[&str]| {
        let output = Command::new(project().join("tests/build-images")).args(arguments).output();
        output.expect("bash is there")
    };
    assert!(text(&run(&["--help"]).stdout).starts_with("usage: ./tests/build-images DIRECTORY"));
    assert_eq!(run(&[]).status.code(), Some(2));
    let wrong = run(&["/nonexistent/images", "--profile", "fast"]);
    assert!(text(&wrong.stderr).contains("there is no profile 'fast'"), "{}", text(&wrong.stderr));
}
