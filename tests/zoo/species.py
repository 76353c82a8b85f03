"""The filesystems of the zoo: what each needs, how it is made, how a host mounts it.

A *local* one belongs to one kernel: one host has it. A *shared* one has a server, and two hosts with kernels of their own.
Scripts are for /bin/sh and end at their first error. Nothing here is meant as advice on how to export a disk: daemons get
the least that makes them serve, since they run in a guest that ends with them.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE = "/run/share/zoo"
"""Where every host has it mounted."""
LAIR = "/run/lair"
"""Where a host sees the directory of this habitat: disk images, keys."""
IMAGE = "disk.image"
IMAGE_BYTES = 512 << 20  # sparse; xfs takes no less than 300 MB


@dataclass(frozen=True)
class Species:
    """One filesystem. ``{lair}`` in a script is the habitat's directory, ``{server}`` the server as that host sees it."""

    name: str
    what: str
    """In words, for a person."""
    mount: str
    """Script on each host: mounts it on `SHARE`, which is there."""
    make: str = ""
    """Script on this machine: makes the disk image, or keys."""
    serve: str = ""
    """Script on the server: exports the lab's disk."""
    programs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    """Debian packages that bring ``programs``."""
    modules: tuple[str, ...] = ()
    """Of the kernel of each host."""
    is_shared: bool = False
    survives: bool = False
    """Whether a local one is still there after its host has lost its power."""
    memory_mb: int = 512
    """Of the server, or of the one host."""


_LOOP = f"mount -o loop {LAIR}/{IMAGE} {SHARE}"
_DISK = "/run/disk"
_SSH = ("sshd", "sshfs", "ssh-keygen")
_SSH_PACKAGES = ("openssh-server", "openssh-client", "sshfs")
_KEYS = "ssh-keygen -q -t ed25519 -N '' -f {lair}/host_key; ssh-keygen -q -t ed25519 -N '' -f {lair}/key"
_SSHD = (
    "mkdir -p /run/sshd; /usr/sbin/sshd -f /dev/null -h {lair}/host_key -o AuthorizedKeysFile={lair}/key.pub"
    " -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes -o Subsystem='sftp internal-sftp'"
)
_SSHFS = (
    "sshfs root@{server}:" + _DISK + f" {SHARE}"
    " -o IdentityFile={lair}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o reconnect"
)
_SMB_CONF = """\
[global]
  security = user
  map to guest = bad user
  guest account = root
  server min protocol = SMB3
  private dir = /run/samba
  lock directory = /run/samba
  state directory = /run/samba
  cache directory = /run/samba
  pid directory = /run/samba
  ncalrpc dir = /run/samba/ncalrpc
  log file = /run/samba/log
  load printers = no
  disable spoolss = yes
[zoo]
  path = /run/disk
  read only = no
  guest ok = yes
  force user = root
"""
_SMB_MODULES = (  # with what the client looks for by name, since no modprobe runs in a guest
    *("cmac", "hmac", "md5", "sha512_generic", "sha256_generic", "aes_generic"),
    *("ccm", "gcm", "ghash_generic", "ctr", "ecb", "cifs"),
)
_SMBD = f"mkdir -p /run/samba/ncalrpc; cat >/run/samba/smb.conf <<'END'\n{_SMB_CONF}END\nsmbd -D -s /run/samba/smb.conf"
_WRITABLE_TMP = (  # with what is there: this checkout may be
    "mkdir -p /run/upper /run/aside; mount -t overlay -o lowerdir=/tmp,upperdir=/run/upper,workdir=/run/aside none /tmp"
)
_GANESHA_CONF = """\
NFS_CORE_PARAM { Protocols = 4; Bind_addr = 0.0.0.0; }
NFSv4 { Lease_Lifetime = 10; Grace_Period = 10; RecoveryBackend = fs; RecoveryRoot = "/run/ganesha"; }
EXPORT { Export_Id = 1; Path = /run/disk; Pseudo = /zoo; Access_Type = RW; Squash = None; SecType = sys; Protocols = 4;
  FSAL { Name = VFS; } }
LOG { Default_Log_Level = EVENT; }
"""
_GANESHA = (
    f"{_WRITABLE_TMP}; rpcbind; mkdir -p /run/ganesha; cat >/run/ganesha/conf <<'END'\n"
    + _GANESHA_CONF
    + "END\nganesha.nfsd -f /run/ganesha/conf -L /run/ganesha/log -p /run/ganesha/pid"
)
_GLUSTER_DIRECTORIES = (  # what its programs write to
    f"mount -t tmpfs none /var/log; mkdir -p /var/log/glusterfs; mount -t tmpfs none /var/lib/glusterd; {_WRITABLE_TMP}"
)


def _gluster(name: str, words: str, layout: str, bricks: int) -> Species:
    """All bricks are on the one server, which every host knows by the address of the first one's cable."""
    places = " ".join(f"10.7.1.1:{_DISK}/brick{number}" for number in range(bricks))
    serve = f"""\
{_GLUSTER_DIRECTORIES}
echo 1 >/proc/sys/net/ipv4/ip_forward
glusterd
until gluster --mode=script volume info >/dev/null 2>&1; do sleep 0.5; done
gluster --mode=script volume create zoo {layout} {places} force
gluster --mode=script volume set zoo storage.reserve 0
gluster --mode=script volume start zoo"""
    route = "ip route add 10.7.1.0/24 via {server} 2>/dev/null || true"  # the first host is there already
    return Species(
        name,
        f"GlusterFS, {words}",
        f"{_GLUSTER_DIRECTORIES}; {route}; mount -t glusterfs 10.7.1.1:/zoo {SHARE}",
        serve=serve,
        programs=("glusterd", "gluster", "mount.glusterfs"),
        packages=("glusterfs-server", "glusterfs-client"),
        modules=("fuse", "overlay"),
        is_shared=True,
        memory_mb=1024,
    )


def _kernel_nfs(version: str) -> Species:
    point = _DISK if version == "3" else "/"
    mount = f"mount -t nfs -o vers={version},hard {{server}}:{point} {SHARE}"
    return Species(f"nfs{version}", f"NFSv{version}, the kernel's server", mount, is_shared=True)


def _smb(name: str, words: str, options: str) -> Species:
    return Species(
        name,
        f"SMB 3.1.1, Samba and the kernel's client, {words}",
        f"mount -t cifs -o vers=3.1.1,guest,uid=0{options} //{{server}}/zoo {SHARE}",
        serve=_SMBD,
        programs=("smbd", "mount.cifs"),
        packages=("samba", "cifs-utils"),
        modules=_SMB_MODULES,
        is_shared=True,
    )


_ALL = (
    Species("tmpfs", "tmpfs", f"mount -t tmpfs none {SHARE}"),
    Species(
        "ext4",
        "ext4",
        _LOOP,
        "mkfs.ext4 -q {lair}/disk.image",
        programs=("mkfs.ext4",),
        packages=("e2fsprogs",),
        modules=("loop",),
        survives=True,
    ),
    Species(
        "xfs",
        "xfs",
        _LOOP,
        "mkfs.xfs -q {lair}/disk.image",
        programs=("mkfs.xfs",),
        packages=("xfsprogs",),
        modules=("loop", "xfs"),
        survives=True,
    ),
    Species(
        "btrfs",
        "btrfs",
        _LOOP,
        "mkfs.btrfs -q {lair}/disk.image",
        programs=("mkfs.btrfs",),
        packages=("btrfs-progs",),
        modules=("loop", "btrfs"),
        survives=True,
    ),
    Species(
        "overlay",
        "overlayfs, both layers on ext4",
        f"mkdir -p /run/layers; mount -o loop {LAIR}/{IMAGE} /run/layers; cd /run/layers; mkdir -p lower upper work;"
        f"mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none {SHARE}",
        "mkfs.ext4 -q {lair}/disk.image",
        programs=("mkfs.ext4",),
        packages=("e2fsprogs",),
        modules=("loop", "overlay"),
        survives=True,
    ),
    Species(
        "vfat",
        "vfat",
        _LOOP,
        "mkfs.vfat {lair}/disk.image",
        programs=("mkfs.vfat",),
        packages=("dosfstools",),
        modules=("loop", "vfat", "nls_cp437", "nls_iso8859_1", "nls_ascii", "nls_utf8"),
        survives=True,
    ),
    Species(
        "bindfs",
        "bindfs (FUSE) over ext4",
        f"mkdir -p /run/below; mount -o loop {LAIR}/{IMAGE} /run/below; bindfs /run/below {SHARE}",
        "mkfs.ext4 -q {lair}/disk.image",
        programs=("mkfs.ext4", "bindfs"),
        packages=("e2fsprogs", "bindfs"),
        modules=("loop", "fuse"),
        survives=True,
    ),
    *(_kernel_nfs(version) for version in ("3", "4.0", "4.1", "4.2")),
    Species(
        "ganesha",
        "NFSv4.2, NFS-Ganesha with its VFS",
        f"mount -t nfs -o vers=4.2,hard {{server}}:/zoo {SHARE}",
        serve=_GANESHA,
        programs=("ganesha.nfsd",),
        packages=("nfs-ganesha", "nfs-ganesha-vfs"),
        modules=("overlay",),
        is_shared=True,
    ),
    _gluster("gluster", "one brick", "", 1),
    _gluster("gluster-replica", "three replicas", "replica 3", 3),
    _gluster("gluster-distributed", "distributed over three bricks", "", 3),
    Species("sshfs", "sshfs, default options", _SSHFS, _KEYS, _SSHD, _SSH, _SSH_PACKAGES, ("fuse",), is_shared=True),
    Species(
        "sshfs-nocache",
        "sshfs -o dir_cache=no",
        _SSHFS + " -o dir_cache=no",
        _KEYS,
        _SSHD,
        _SSH,
        _SSH_PACKAGES,
        ("fuse",),
        is_shared=True,
    ),
    _smb("smb", "default options", ""),
    _smb("smb-nolease", "nolease", ",nolease"),
)
SPECIES = {each.name: each for each in _ALL}
QUICK = ("tmpfs", "ext4", "xfs", "btrfs", "overlay")
"""Those without a server or a daemon."""
