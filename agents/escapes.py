"""Ways out of the sandbox: what each one tries, where, and how it is judged.

Each is a few lines of Python that run inside, after `agents/escape_guest.py` and with its facts in
`F`. An OSError means that it was refused. `agents/escape_scene.py` sets the scene and judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Where(StrEnum):
    """As which guest something is tried."""

    AGENT = "agent"  #: in a turn, with the network of the host
    CHECK = "check"  #: as a check, without network
    WORK = "work"  #: in a turn, whose work is then committed and taken into the hub
    BUNDLE = "bundle"  #: as what is handed to the hub, made by hand


class Judge(StrEnum):
    """What tells that it worked; each is looked at whatever was tried."""

    LEARNED = "it printed a secret of the scene, or says that it got out"
    CHANGED = "a file outside its own place is new or another"
    HURT = "a process of the server was ended, stopped or traced"
    LEFT = "a process of its own outlives it"
    UNENDED = "it is not ended for what it uses"
    TAKEN = "the hub took something of it that it refuses"


@dataclass(frozen=True)
class Escape:
    """One way out; `reason` is why it is ended when it has to be. A risky one is never tried
    without bubblewrap."""

    name: str
    group: str
    tries: str
    code: str
    where: Where = Where.AGENT
    judge: Judge = Judge.LEARNED
    reason: str = ""
    is_risky: bool = False


def _files() -> list[Escape]:
    group, changed = "files", Judge.CHANGED
    return [
        Escape("other-clone-read", group, "read another module's clone",
               'show(F["other_clone"] + "/secret.txt")'),
        Escape("other-clone-write", group, "write into another module's clone",
               'open(F["other_clone"] + "/planted.txt", "w").write("mine")', judge=changed),
        Escape("other-clone-relative", group, "reach another clone by ..",
               'show("../../other/clone/secret.txt")'),
        Escape("other-home-read", group, "read the HOME of another run",
               'show(F["other_home"] + "/session")'),
        Escape("other-clone-by-root", group, "go round by /proc/1/root and /proc/self/cwd",
               'each(show, "/proc/1/root" + F["other_clone"] + "/secret.txt",'
               ' "/proc/self/cwd/../../other/clone/secret.txt")'),
        Escape("hub-objects-read", group, "read objects of the project's hub",
               'got(os.listdir(F["hub"] + "/objects"))'),
        Escape("hub-ref-write", group, "move a branch of the hub by its file",
               'open(F["hub"] + "/refs/heads/main", "w").write(F["base"])', judge=changed),
        Escape("hub-push", group, "push a branch into the hub",
               'print(git("push", F["hub"], "HEAD:refs/heads/pushed"))', judge=changed),
        Escape("hub-hook-write", group, "plant a hook in the hub",
               'os.makedirs(F["hub"] + "/hooks", exist_ok=True);'
               ' open(F["hub"] + "/hooks/post-update", "w").write(F["plant"])', judge=changed),
        Escape("other-hub-read", group, "read another project's hub with git",
               'print(git("--git-dir=" + F["other_hub"], "log", "-p", "--all"))'),
        Escape("data-directory", group, "list TUTTI_HOME",
               'seen = set(os.listdir(F["home"])) - {F["folder"]}; seen and got(seen)'),
        Escape("key-files", group, "read the keys that seal secrets and sessions",
               'each(lambda path: got(open(path).read(1)), *F["key_files"])'),
        Escape("system-secrets", group, "read /etc/shadow and root's files",
               'each(lambda path: got(open(path).read(1)), "/etc/shadow", "/root/.bashrc",'
               ' "/root/.ssh/id_rsa", "/root/.netrc", "/root/.gitconfig")'),
        Escape("host-tmp", group, "read what others left in /tmp",
               'each(show, F["tmp_file"])'),
        Escape("symlink-out", group, "read through a link that leads out",
               'os.symlink(F["secret"], "link"); show("link")'),
        Escape("hard-link-out", group, "link a file of somebody else into the clone",
               'os.link(F["secret"], "twin"); show("twin")'),
        Escape("program-write", group, "write over the agent's own program",
               'open(F["program"], "a").write("# mine")', judge=changed),
        Escape("environment-write", group, "plant a module in the checks' virtual environment",
               'open(F["environment"] + "/bin/activate", "w").write(F["plant"])', judge=changed),
        Escape("environment-rename", group, "put another directory in the environment's place",
               'os.rename(F["environment"], F["environment"] + ".old")',
               judge=changed, is_risky=True),
        Escape("system-write", group, "write into the system's programs and accounts",
               'for path in ("/usr/bin/tutti-x", "/etc/tutti-x", "/tutti-x", "/usr/lib/tutti-x"):\n'
               '    each(lambda path: got(open(path, "w")), path)', is_risky=True),
        Escape("descriptors", group, "use files that the server has open",
               'for name in os.listdir("/proc/self/fd"):\n'
               '    end = os.readlink("/proc/self/fd/" + name) if int(name) < 64 else ""\n'
               '    if end.startswith("/") and not end.startswith(("/dev/null", "/proc/")):\n'
               '        got(end)'),
        Escape("set-user-id", group, "leave a program that runs as its owner for others to start",
               'import shutil; shutil.copy("/bin/sh", "shell"); os.chmod("shell", 0o6755)',
               judge=changed),
    ]  # fmt: skip


def _processes() -> list[Escape]:
    group, left = "processes", Judge.LEFT
    unended = Judge.UNENDED
    return [
        Escape("own-environment", group, "find the server's settings in its own variables",
               "print(dict(os.environ))"),
        Escape("all-environments", group, "read /proc/*/environ of everybody",
               "for name in filter(str.isdigit, os.listdir('/proc')):\n"
               "    each(show, f'/proc/{name}/environ')"),
        Escape("server-environment", group, "read the environment and memory of the server by pid",
               'each(show, f"/proc/{F[\'victim\']}/environ", f"/proc/{F[\'server\']}/environ");'
               ' each(lambda path: got(open(path, "rb")), f"/proc/{F[\'server\']}/mem")'),
        Escape("trace", group, "trace a process of the server",
               'libc.ptrace(16, F["victim"], None, None) or got("attached")', judge=Judge.HURT),
        Escape("foreign-memory", group, "read the memory of a process of the server",
               'room = ctypes.create_string_buffer(64)\n'
               'piece = struct.pack("PN", ctypes.addressof(room), 64)\n'
               'read = libc.process_vm_readv(F["victim"], piece, 1, piece, 1, 0)\n'
               '(read != -1 or ctypes.get_errno() == 14) and got("only the address was wrong")'),
        Escape("signal", group, "kill a process of the server",
               'os.kill(F["victim"], 9)', judge=Judge.HURT),
        Escape("signal-all", group, "kill every process there is", "os.kill(-1, 9)",
               judge=Judge.HURT, is_risky=True),
        Escape("pid-handle", group, "open a handle of the server's process",
               'got(os.pidfd_open(F["victim"]))'),
        Escape("priority", group, "be the last that the kernel ends when memory is short",
               'os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-1000");'
               ' got("unkillable")'),
        Escape("daemon-session", group, "outlive the run in a session of its own",
               "stray(start_new_session=True)", judge=left),
        Escape("daemon-double-fork", group, "outlive the run as an orphan that ignores signals",
               "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
               "        for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n"
               "        stray().wait()\n    os._exit(0)", judge=left),
        Escape("daemon-pipes", group, "hold the output open for ever",
               "stray(stdout=1, stderr=2, start_new_session=True)", judge=left),
        Escape("daemon-unmarked", group, "outlive the run without the mark of its sandbox",
               "stray(env={}, start_new_session=True)", judge=left, is_risky=True),
        Escape("fork-bomb", group, "start processes without end",
               "for _ in range(400): subprocess.Popen(['sleep', '30'])\ntime.sleep(30)",
               judge=unended, reason="processes", is_risky=True),
        Escape("memory-bomb", group, "take all memory, spread over children",
               "for _ in range(6):\n    if os.fork() == 0:\n"
               "        room = bytearray(90_000_000); time.sleep(30); os._exit(0)\ntime.sleep(30)",
               judge=unended, reason="out_of_memory", is_risky=True),
        Escape("disk-bomb", group, "fill the disk with one file, and memory by /tmp and /dev/shm",
               'def fill(path):\n    with open(path, "wb") as file:\n'
               "        for _ in range(120): file.write(bytes(1_000_000)); file.flush()\n"
               "    got(path)\nsignal.signal(25, signal.SIG_IGN)\n"
               'each(fill, "big", "/tmp/big", "/dev/shm/big")', is_risky=True),
        Escape("limit-raise", group, "raise its own limits",
               "import resource\neach(lambda n: got(resource.setrlimit(n, (-1, -1))),"
               " resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)"),
    ]  # fmt: skip


def _kernel() -> list[Escape]:
    group = "kernel"
    return [
        Escape("mount", group, "mount over the system's files",
               'libc.mount(b"none", b"/usr", b"tmpfs", 0, None) or got("mounted")', is_risky=True),
        Escape("remount", group, "make what is read-only writable again",
               'for at in (b"/", b"/usr", b"/proc/sys", b"/dev"):\n'
               '    libc.mount(b"none", at, None, 32 | 4096, None) or got(at)', is_risky=True),
        Escape("unmount", group, "take away what lies over the host's files",
               'for at in (b"/tmp", b"/proc/sys", b"/home/agent"):\n'
               '    libc.umount2(at, 2) or got(at)', is_risky=True),
        Escape("chroot", group, "leave the root by chroot",
               'os.mkdir("jail"); os.chroot("jail"); got("chroot")'),
        Escape("user-namespace", group, "be root in a user namespace of its own",
               'libc.unshare(0x10000000) or got("unshared")'),
        Escape("user-namespace-clone", group, "the same by clone and clone3",
               'libc.syscall(F["clone"], 0x10000000 | 17, 0, 0, 0, 0) >= 0 and got("cloned")\n'
               'size = 88; room = struct.pack("11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)\n'
               'libc.syscall(435, room, size) >= 0 and got("cloned by clone3")'),
        Escape("other-namespaces", group, "make a network or mount namespace",
               'for kind in (0x40000000, 0x20000): libc.unshare(kind) or got(kind)',
               is_risky=True),
        Escape("kernel-settings", group, "write the kernel's settings (core_pattern, sysrq, …)",
               'each(lambda path: got(os.open(path, os.O_WRONLY)),'
               ' "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches",'
               ' "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger",'
               ' "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper")'),
        Escape("devices", group, "open memory, disks and the kernel's log, or make a device",
               'each(lambda path: got(os.open(path, os.O_RDWR)), "/dev/mem", "/dev/kmsg",'
               ' "/dev/sda", "/dev/vda", "/dev/fuse", "/dev/kvm", "/dev/net/tun")\n'
               'os.mknod("disk", 0o60600, os.makedev(8, 0)); got("device")'),
        Escape("devices-write", group, "plant a file in /dev",
               'open("/dev/tutti-x", "w"); got("written")'),
        Escape("terminal", group, "type into the terminal that Tutti was started from",
               'import fcntl; tty = os.open("/dev/tty", os.O_RDWR)\n'
               'fcntl.ioctl(tty, 0x5412, b"\\n"); got("typed")', is_risky=True),
        Escape("key-ring", group, "find the server's keys in the kernel's key ring",
               'libc.syscall(F["keyctl"], 10, -3, b"user", F["key"].encode(), 0) >= 0'
               ' and got("found the key")'),
        Escape("shared-memory", group, "attach shared memory of the server",
               'libc.shmget(F["shared_memory"], 64, 0) >= 0 and got("attached")'),
        Escape("programs-in-kernel", group, "load a program into the kernel, or measure others",
               'room = ctypes.create_string_buffer(128)\n'
               'room[0:16] = struct.pack("4I", 1, 4, 4, 1)\n'
               'libc.syscall(F["bpf"], 0, room, 128) >= 0 and got("bpf")\n'
               'libc.syscall(F["perf"], room, -1, 0, -1, 0) >= 0 and got("perf")'),
        Escape("side-doors", group, "make calls that no filter sees, by io_uring",
               'room = ctypes.create_string_buffer(256)\n'
               'libc.syscall(425, 4, room) >= 0 and got("io_uring")'),
        Escape("clock-set", group, "set the host's clock",
               'time.clock_settime(time.CLOCK_REALTIME, time.time()); got("set")',
               is_risky=True),
    ]  # fmt: skip


def _network() -> list[Escape]:
    group, check = "network", Where.CHECK
    ask_database = 'ask_database(F["database"])'
    ask_valkey = 'ask_valkey(F["valkey"])'
    return [
        Escape("socket-by-path", group, "connect to a socket of the server by its path",
               'listen_to(F["socket"])'),
        Escape("database-agent", group, "ask PostgreSQL, by its socket or by TCP", ask_database),
        Escape("database-check", group, "the same as a check", ask_database, check),
        Escape("valkey-agent", group, "ask Valkey, by its socket or by TCP", ask_valkey),
        Escape("valkey-check", group, "the same as a check", ask_valkey, check),
        Escape("containers", group, "ask Docker, containerd, Podman or the system bus",
               'each(lambda path: got(connected(path)), "/var/run/docker.sock", "/run/docker.sock",'
               ' "/run/containerd/containerd.sock", "/run/podman/podman.sock",'
               ' "/run/dbus/system_bus_socket", "/run/systemd/private")'),
        Escape("abstract-socket", group, "connect to an abstract socket of the server",
               'listen_to("\\0" + F["abstract"])'),
        Escape("abstract-socket-check", group, "the same as a check",
               'listen_to("\\0" + F["abstract"])', check),
        Escape("loopback-check", group, "reach a server of this host from a check",
               'listen_to(("127.0.0.1", F["port"]))', check),
        Escape("metadata-check", group, "ask the cloud's metadata address from a check",
               'got(connected(("169.254.169.254", 80)))', check),
        Escape("internet-check", group, "reach the internet from a check",
               'each(lambda at: got(connected(at)), ("1.1.1.1", 443), ("8.8.8.8", 53))', check),
        Escape("names-check", group, "ask a name server from a check",
               'got(socket.getaddrinfo("pypi.org", 443))', check),
        Escape("raw-packets", group, "listen to the host's packets",
               'got(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 768))'),
        Escape("hypervisor", group, "talk to the hypervisor by vsock",
               'got(socket.socket(40, socket.SOCK_STREAM))', check),
        Escape("signing-agent", group, "use the ssh agent of whoever started Tutti",
               'got(connected(os.environ.get("SSH_AUTH_SOCK", "/nowhere")))'),
    ]  # fmt: skip


def _work() -> list[Escape]:
    group, where, changed = "git", Where.WORK, Judge.CHANGED
    return [
        Escape("planted-fsmonitor", group, "have the server's git start a monitor",
               'plant(); git("config", "core.fsmonitor", here("evil.sh"))', where, changed),
        Escape("planted-hooks", group, "have the server's git run hooks",
               'plant("hooks/pre-commit", "hooks/post-checkout", "hooks/reference-transaction",'
               ' ".git/hooks/pre-commit", ".git/hooks/post-index-change");'
               ' git("config", "core.hooksPath", here("hooks"))', where, changed),
        Escape("planted-filter", group, "have the server's git run a filter of .gitattributes",
               'plant(); attributes("* filter=evil diff=evil merge=evil")\n'
               'for key in ("clean", "smudge", "process"):'
               ' git("config", "filter.evil." + key, here("evil.sh"))', where, changed),
        Escape("planted-diff", group, "have the server's git run a diff or merge driver",
               'plant(); attributes("* diff=evil merge=evil")\n'
               'for key in ("diff.external", "diff.evil.command", "diff.evil.textconv",'
               ' "merge.evil.driver"): git("config", key, here("evil.sh"))', where, changed),
        Escape("planted-programs", group, "have the server's git run a pager, editor, ssh or gpg",
               'plant()\nfor key in ("core.pager", "core.editor", "core.sshCommand",'
               ' "core.askPass", "gpg.program", "credential.helper", "core.gitProxy",'
               ' "uploadpack.packObjectsHook"): git("config", key, here("evil.sh"))\n'
               'git("config", "commit.gpgSign", "true")', where, changed),
        Escape("planted-include", group, "take in configuration from elsewhere",
               'plant(); open("more", "w").write("[core]\\n\\tfsmonitor = " + here("evil.sh"));'
               ' git("config", "include.path", here("more"))', where, changed),
        Escape("planted-worktree", group, "have another module's clone committed",
               'git("config", "core.worktree", F["other_clone"])', where, Judge.TAKEN),
        Escape("planted-path", group, "plant programs that the server might find first",
               'plant("git", "sh", "python", "bin/git", os.environ["HOME"] + "/bin/git",'
               ' os.environ["HOME"] + "/.local/bin/git")', where, changed),
        Escape("filter-daemon", group, "leave a daemon behind from within the commit",
               'attributes("* filter=evil");'
               ' open("evil.sh", "w").write("#!/bin/sh\\nsetsid sleep 60 " + F["token"]'
               ' + " >/dev/null 2>&1 &\\ncat\\n"); os.chmod("evil.sh", 0o755);'
               ' git("config", "filter.evil.clean", here("evil.sh"))', where, Judge.LEFT),
        Escape("filter-swaps-bundle", group, "put a link in the place of the bundle",
               'attributes("* filter=evil"); open("evil.sh", "w").write('
               '"#!/bin/sh\\n(for n in 1 2 3 4 5 6; do ln -sf " + F["secret"]'
               ' + " $OUT/work.bundle; sleep 0.05; done) >/dev/null 2>&1 &\\ncat\\n");'
               ' os.chmod("evil.sh", 0o755); git("config", "filter.evil.clean", here("evil.sh"))',
               where),
        Escape("alternates", group, "borrow objects of another project",
               'open(".git/objects/info/alternates", "w").write(F["other_hub"] + "/objects");'
               ' open(".git/refs/heads/work", "w").write(F["foreign"]);'
               ' open("more", "w").write("x")',
               where, Judge.TAKEN),
        Escape("git-file", group, "put a file that points at another repository for .git",
               'import shutil; shutil.rmtree(".git");'
               ' open(".git", "w").write("gitdir: " + F["other_hub"])', where, Judge.TAKEN),
        Escape("git-link", group, "put a link to another repository for .git",
               'import shutil; shutil.rmtree(".git"); os.symlink(F["other_hub"], ".git")',
               where, Judge.TAKEN),
        Escape("replaced-base", group, "replace the commit that the work builds on",
               'git("replace", F["base"], commit(git("write-tree"), None));'
               ' open("more", "w").write("x")', where, Judge.TAKEN),
        Escape("symlink-committed", group, "hand over a link that leads out",
               'os.symlink(F["secret"], "link"); os.symlink("../../../other/clone", "dir")',
               where, Judge.TAKEN),
        Escape("submodule", group, "hand over a repository inside the repository",
               'git("init", "-q", "sub"); git("-C", "sub", "commit", "-q", "--allow-empty",'
               ' "-m", "x"); open(".gitmodules", "w").write(\'[submodule "sub"]\\n\\tpath = sub\\n'
               '\\turl = ext::sh -c evil\')', where, Judge.TAKEN),
    ]  # fmt: skip


def _bundles() -> list[Escape]:
    group, where, taken = "hand-over", Where.BUNDLE, Judge.TAKEN
    return [
        Escape("tree-with-git", group, "hand over a tree with a .git in it",
               'bundle(commit(tree(b".git"), F["base"]))', where, taken),
        Escape("tree-with-dots", group, "hand over a tree with .. in it",
               'bundle(commit(tree(b".."), F["base"]))', where, taken),
        Escape("tree-with-twin", group, "hand over .GIT and a name with a slash",
               'bundle(commit(tree(b".GIT", b"a/b"), F["base"]))', where, taken),
        Escape("foreign-objects", group, "name another project's commit as its work",
               'empty_bundle(F["foreign"])', where, taken),
        Escape("foreign-tree", group, "build on another project's tree",
               'bundle(commit(F["foreign_tree"], F["base"]))', where, taken),
        Escape("without-base", group, "hand over a history that builds on nothing known",
               'bundle(commit(git("write-tree"), None))', where, taken),
        Escape("link-for-bundle", group, "hand over a link to a file of the server",
               'os.symlink(F["secret"], "work.bundle")', where, taken),
        Escape("pipe-for-bundle", group, "hand over a pipe that the server would wait for",
               'os.mkfifo("work.bundle")', where, taken),
        Escape("main-in-bundle", group, "hand over main and a branch named as an option",
               'bundle(commit(tree(b"a.py"), F["base"]), "refs/heads/main", "refs/heads/-x")',
               where, taken),
        Escape("bundle-bomb", group, "hand over more than is taken",
               'open("work.bundle", "wb").write(bytes(2_000_000))', where, taken),
    ]  # fmt: skip


ESCAPES = (*_files(), *_processes(), *_kernel(), *_network(), *_work(), *_bundles())
